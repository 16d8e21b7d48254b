export { FakeLog } from "./testing/fake-log.js";
