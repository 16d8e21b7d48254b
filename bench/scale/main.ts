import { Command } from "commander";
import { whole, listOf, runMain } from "../lib/options.js";
import { measureCollections } from "./collections.js";
import { measureCreations } from "./creations.js";
import { planMoves } from "./moves.js";
import { measureStreams } from "./streams.js";

const command = new Command("bench:scale").description(
  "what many logs cost a nats-server, what many small collections cost a node, and what a large cluster moves",
);
const counts = listOf(whole(1, 100_000));

command
  .command("streams")
  .description("makes logs on a nats-server of its own: time, memory, disk, and how long it takes to start with them")
  .option("--counts <list>", "logs after each step", counts, [250, 1_000, 2_000, 4_000])
  .action(measureStreams);

command
  .command("collections")
  .description("makes small collections on one node: memory and how long it takes to start with them")
  .option("--counts <list>", "collections after each step", counts, [100, 300, 600])
  .option("--points <n>", "points of each", whole(1, 10_000), 10)
  .option("--dimension <n>", "components of a vector", whole(1, 4_096), 128)
  .action(measureCollections);

command
  .command("creations")
  .description("how fast collections are made, one by one and many at once: with the log embedded, and on JetStream")
  .option("--count <n>", "collections of each part of a round", whole(1, 400), 64)
  .option("--at-once <n>", "how many are made at once in every second part", whole(2, 256), 32)
  .option("--rounds <n>", "rounds, of which each has every part once", whole(1, 100), 3)
  .action(measureCreations);

command
  .command("moves")
  .description("runs placement and the balancer for a collection on many nodes, and one node more")
  .option("--nodes <n>", "nodes before", whole(2, 2_000), 200)
  .option("--points <n>", "points of the collection", whole(1), 1_000_000_000)
  .option("--shards <n>", "its shards", whole(1, 256), 256)
  .option("--replicas <n>", "copies of each", whole(1, 7), 2)
  .option("--disk-bytes <n>", "bytes of a point on disk, per replica", whole(1), 700)
  .option("--memory-bytes <n>", "bytes of a point in memory, per replica", whole(1), 800)
  .option("--log-bytes <n>", "bytes of a point's record in the log", whole(1), 560)
  .action(planMoves);

await runMain(command);
