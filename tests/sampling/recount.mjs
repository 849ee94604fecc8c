// Recounts a draw and a committee from the published description alone, without lydite.
// Usage: node recount.mjs < {"beta": hex, "last": n, "epsilonPpm": n, "eligible": n, "wanted": n}
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const { beta, last, epsilonPpm, eligible, wanted } = JSON.parse(readFileSync(0, "utf8"));
const u64 = (number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(number));
  return bytes;
};
const first8 = (...parts) =>
  createHash("sha256").update(Buffer.concat([Buffer.from(beta, "hex"), ...parts])).digest()
    .readBigUInt64BE(0);

const threshold = (BigInt(epsilonPpm) << 64n) / 1000000n;
const drawn = [];
for (let i = 1; i <= last; i++) if (first8(u64(i)) < threshold) drawn.push(i);

const committees = drawn.map((i) => {
  const members = [...Array(eligible).keys()];
  for (let k = 0, j = 0; k < wanted; k++) {
    const left = BigInt(eligible - k);
    const share = (1n << 64n) / left;
    let step;
    do step = first8(u64(i), Buffer.from("v"), u64(j++)) / share; while (step >= left);
    const other = k + Number(step);
    [members[k], members[other]] = [members[other], members[k]];
  }
  return members.slice(0, wanted);
});
console.log(JSON.stringify({ drawn, committees }));
