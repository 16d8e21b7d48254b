#!/usr/bin/env node
import { processIo } from "./process-io.js";
import { run } from "./run.js";

const io = processIo(process.env, () => process.exit(130));
process.exit(await run(process.argv.slice(2), io));
