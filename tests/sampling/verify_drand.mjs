// Asks drand's own client for JavaScript which of the beacons on stdin it accepts.
// Usage: node verify_drand.mjs FOLDER_WITH_NODE_MODULES < cases.json
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.argv[2], "package.json"));
const { fetchBeacon } = require("drand-client");
const cases = JSON.parse(readFileSync(0, "utf8"));
const verdicts = [];
for (const { info, beacon } of cases) {
  const client = {
    options: { disableBeaconVerification: false, noCache: false },
    get: async () => beacon,
    chain: () => ({ baseUrl: "http://nowhere.invalid", info: async () => info }),
  };
  try {
    await fetchBeacon(client, beacon.round);
    verdicts.push(true);
  } catch {
    verdicts.push(false);
  }
}
console.log(JSON.stringify(verdicts));
