// Verify the proofs of a log directory with @sigstore/verify, which shares no code with lydite.
//
//   node verify.cjs PACKAGE-DIR DIR LOG-VKEY
//
// Prints the number of proofs that verify, or says what failed and exits 1. The modules are
// internal to the package: its version is pinned where it is installed.
const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const [packageDir, dir, vkey] = process.argv.slice(2);
const { verifyCheckpoint } = require(path.join(packageDir, "dist", "tlog", "checkpoint.js"));
const { verifyMerkleInclusion } = require(path.join(packageDir, "dist", "tlog", "merkle.js"));

const [name, keyId, material] = vkey.split(/\+(.*?)\+(.*)/s);
const log = {
  baseURL: name,
  logID: Buffer.from(keyId, "hex"),
  publicKey: crypto.createPublicKey({
    key: Buffer.concat([
      Buffer.from("302a300506032b6570032100", "hex"), // SubjectPublicKeyInfo of Ed25519
      Buffer.from(material, "base64").subarray(1),
    ]),
    format: "der",
    type: "spki",
  }),
};

let count = 0;
try {
  for (const file of fs.readdirSync(path.join(dir, "proofs"))) {
    if (!file.endsWith(".tlog-proof")) continue;
    const text = fs.readFileSync(path.join(dir, "proofs", file), "utf8");
    const split = text.indexOf("\n\n");
    const [, index, ...hashes] = text.slice(0, split).split("\n");
    const entry = {
      canonicalizedBody: fs.readFileSync(
        path.join(dir, "proofs", file.replace(".tlog-proof", ".entry")),
      ),
      inclusionProof: {
        checkpoint: { envelope: text.slice(split + 2) },
        logIndex: index.replace("index ", ""),
        hashes: hashes.map((hash) => Buffer.from(hash, "base64")),
      },
    };
    verifyMerkleInclusion(entry, verifyCheckpoint(entry, [log]));
    count += 1;
  }
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
console.log(count);
