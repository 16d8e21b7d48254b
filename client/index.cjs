"use strict";

// Node 20.19 and newer load ES modules by require() where none of them awaits while it is loaded.
module.exports = require("../dist/libs/client/index.js");
