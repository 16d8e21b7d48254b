#include "layout.h"
#include <initializer_list>
#include <utility>
#include "codec.h"
#include "failure.h"
#include "search.h"

namespace kith {
namespace {

using Names = std::initializer_list<std::pair<const char*, size_t>>;

std::string object(const Names& names) {
    std::string text;
    for (const auto& [name, value] : names) {
        text += text.empty() ? "{" : ",";
        text += std::string("\"") + name + "\":" + std::to_string(value);
    }
    return text + "}";
}

}  // namespace

std::string layoutAsJson() {
    std::string text = "{\"sizes\":" + object({{"tickets", ticketsMax}, {"headers", headersMax}, {"results", resultsMax}});
    text += ",\"header\":" + object({{"ticket", headerTicket}, {"failure", headerFailure}, {"count", headerCount}, {"computed", headerComputed},
                                     {"plan", headerPlan}, {"queueUs", headerQueueUs}, {"searchUs", headerSearchUs},
                                     {"from", headerFrom}, {"visited", headerVisited}, {"walked", headerWalked}, {"allowed", headerAllowed},
                                     {"walkEstimateUs", headerWalkEstimateUs}, {"scanEstimateUs", headerScanEstimateUs},
                                     {"twoHopsEstimateUs", headerTwoHopsEstimateUs}, {"twoHops", headerTwoHops},
                                     {"words", headerWords}});
    text += ",\"request\":" + object({{"ticket", requestTicket}, {"index", requestIndex}, {"k", requestK}, {"ef", requestEf},
                                      {"flags", requestFlags}, {"queryAt", requestQueryAt}, {"scored", requestScored}, {"words", requestWords}});
    text += ",\"flag\":" + object({{"exact", requestExact}, {"filter", requestFilter}, {"slots", requestSlots}, {"codesOnly", requestCodesOnly}});
    text += ",\"option\":" + object({{"dimension", optionDimension}, {"metric", optionMetric}, {"datatype", optionDatatype}, {"m", optionM},
                                     {"efConstruction", optionEfConstruction}, {"graphThreshold", optionGraphThreshold}, {"words", optionWords}});
    text += ",\"stats\":" + object({{"rowCount", statsRows}, {"aliveCount", statsAlive}, {"graphRowCount", statsGraphRows},
                                    {"arenaBytes", statsArenaBytes}, {"graphBytes", statsGraphBytes}, {"otherBytes", statsOtherBytes},
                                    {"hugePages", statsHugePages}, {"givenBytes", statsGivenBytes}, {"numbers", statsNumbers}});
    text += ",\"metric\":" + object({{"cosine", metricCosine}, {"dot", metricDot}, {"l2", metricL2}});
    text += ",\"datatype\":" + object({{"f32", datatypeF32}, {"f16", datatypeF16}, {"bf16", datatypeBf16}, {"i8", datatypeI8}, {"i4", datatypeI4}, {"binary", datatypeBinary},
                                       {"pq16", datatypePq16}, {"pq32", datatypePq32}, {"pq64", datatypePq64}});
    text += ",\"plan\":" + object({{"graph", static_cast<size_t>(Plan::graph)}, {"scan", static_cast<size_t>(Plan::scan)},
                                   {"graph+scan", static_cast<size_t>(Plan::graphAndScan)}});
    text += ",\"failure\":" + object({{"none", Failure::none}, {"notFinite", Failure::notFinite}, {"zeroVector", Failure::zeroVector},
                                      {"duplicateSlot", Failure::duplicateSlot}, {"resources", Failure::resources}, {"corrupt", Failure::corrupt},
                                      {"io", Failure::io}, {"cancelled", Failure::cancelled}, {"closed", Failure::closed},
                                      {"invalid", Failure::invalid}, {"internal", Failure::internal},
                                      {"outOfRange", Failure::outOfRange}});
    text += ",\"code\":" + object({{"f32", codeF32}, {"f16", codeF16}, {"bf16", codeBf16}, {"i8", codeI8}, {"i16", codeI16}, {"i4", codeI4}, {"binary", codeBinary}});
    return text + "}";
}

}  // namespace kith
