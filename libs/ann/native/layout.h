// What native code and TypeScript both must know: the numbers by which they speak. Named here, and given to TypeScript by
// `layout()` (addon.cpp), so that each is written down once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace kith {

// Buffers that native code fills.
constexpr uint32_t ticketsMax = 65536;
constexpr size_t headersMax = 1024;
constexpr size_t resultsMax = 65536;

/** Words of the header of one completion. */
enum HeaderWord : size_t {
    headerTicket, headerFailure, headerCount, headerComputed, headerPlan, headerQueueUs, headerSearchUs, headerFrom,
    headerVisited, headerWalked, headerAllowed, headerWalkEstimateUs, headerScanEstimateUs,
    headerTwoHopsEstimateUs, headerTwoHops, headerWords
};
/** Words of one search on its way in. */
enum RequestWord : size_t { requestTicket, requestIndex, requestK, requestEf, requestFlags, requestQueryAt, requestScored, requestWords };
enum RequestFlag : uint32_t { requestExact = 1, requestFilter = 2, requestSlots = 4, requestCodesOnly = 8 };
/** Words of the options of an index. */
enum OptionWord : size_t { optionDimension, optionMetric, optionDatatype, optionM, optionEfConstruction, optionGraphThreshold, optionWords };
/** Numbers of the statistics of an index. */
enum StatsNumber : size_t { statsRows, statsAlive, statsGraphRows, statsArenaBytes, statsGraphBytes, statsOtherBytes, statsHugePages, statsGivenBytes, statsNumbers };

/** All of it as JSON, with the codes of metrics, datatypes, plans and failures. */
std::string layoutAsJson();

}  // namespace kith
