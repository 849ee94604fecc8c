"""One command line for each command and step, shown by its ``--help``: copy it, then change it.

Knows no parser; a test holds every example to the parser of its own command.
"""

EXAMPLES = {
    "demo": "lydite demo",
    "example": "lydite example --cheat",
    "audit": "lydite audit http://127.0.0.1:8000 --model models/lydite-base",
    "verify": "lydite verify out/demo/latest/honest.bundle.json --trust out/demo/latest/trust.json",
    "receipt": "lydite receipt http://127.0.0.1:8088/v1/receipts/ID --trust trust.json"
    " --salt SALT --path /v1/completions --request request --response response",
    "trust": "lydite trust mine/anchor.json --auditor KEY --witnesses w1/witness.policy"
    " --beacon beacon/chain.json --reference data/reference/tokens/lydite-base.json"
    " --out trust.json",
    "log status": "lydite log status http://127.0.0.1:8088",
    "log mirror": "lydite log mirror http://127.0.0.1:8088 --trust trust.json",
    "log story": "lydite log story http://127.0.0.1:8088 --trust trust.json"
    " --authority mine/gateway.json",
    "log prove": "lydite log prove http://127.0.0.1:8088 3 --trust trust.json",
    "log check": "lydite log check entry-3.tlog-proof entry-3 --trust trust.json",
    "plot": "lydite plot out/demo/latest/*.bundle.json --trust out/demo/latest/trust.json"
    " --out evidence.png",
    "gateway init": "lydite gateway init mine --name mine.example/log"
    " --model models/lydite-base --upstream http://127.0.0.1:8000",
    "gateway run": "lydite gateway run mine/gateway.json",
    "gateway seal": "lydite gateway seal mine/gateway.json",
    "gateway measure": "lydite gateway measure mine/gateway.json",
    "gateway sign": "lydite gateway sign models/lydite-base --key officer.key --new-key"
    " --out signed/lydite-base",
    "gateway upload": "lydite gateway upload models/lydite-base --to http://127.0.0.1:8089",
    "gateway demo": "lydite gateway demo",
    "engine": "lydite engine --model models/lydite-base --port 8000",
    "admin key": "lydite admin key ada.key",
    "admin order": "lydite admin order set-upstreams --set urls=http://127.0.0.1:8001"
    ' --anchor mine/anchor.json --key ada.key --why "a new server" --out order.json',
    "admin agree": "lydite admin agree order.json --key bo.key",
    "admin show": "lydite admin show order.json",
    "admin send": "lydite admin send order.json --anchor mine/anchor.json"
    " --to http://127.0.0.1:8091",
    "auditor init": "lydite auditor init auditor.key",
    "auditor run": "lydite auditor run auditor.toml --once",
    "recomputer init": "lydite recomputer init recomputer --name recomputer.example/log",
    "recomputer run": "lydite recomputer run recomputer/recomputer.toml",
    "power record": "lydite power record --session job-8 --label workload=training"
    " --store power-traces -- python train.py",
    "power import": "lydite power import smi.csv --format nvidia-smi --session job-7"
    " --label workload=training --store power-traces",
    "power query": "lydite power query --where workload=training --store power-traces",
    "power stats": "lydite power stats --by workload --store power-traces",
    "power watch": "lydite power watch mine/segments --key KEY --tdp 700",
    "power demo": "lydite power demo --speed 60",
    "power recognise": "lydite power recognise NAME --learnt recognition.bin",
    "power declare": "lydite power declare draft.json --out work.json",
    "power calibrate": "lydite power calibrate --name hall-3 --run work-1.json=gpu-1.parquet"
    " --run work-2.json=gpu-2.parquet --out site.json",
    "power disputes": "lydite power disputes disputes.jsonl --public KEY --site site.json",
    "power ledger": "lydite power ledger --declared work.json --trace gpu-0.parquet"
    " --site site.json",
    "power check": "lydite power check --declared work.json --trace gpu-0.parquet"
    " --site site.json --log disputes.jsonl --key verifier.key",
    "power plot": "lydite power plot NAME --out trace.png --store power-traces",
    "monitor init": "lydite monitor init mine",
    "monitor run": "lydite monitor run mine/monitor.toml",
    "monitor selfcheck": "lydite monitor selfcheck mine/monitor.toml",
    "monitor check": "lydite monitor check mine/segments --key KEY",
    "monitor point": "lydite monitor point mine/segments --key KEY"
    " --from 2026-01-01T00:00:00.000Z --to 2026-01-01T00:00:01.000Z",
    "meter init": "lydite meter init meter.key",
    "meter run": "lydite meter run meter.toml",
    "witness init": "lydite witness init w1 --name w1.example --port 8101",
    "witness run": "lydite witness run w1 --anchor mine/anchor.json",
    "beacon init": "lydite beacon init beacon --period 1",
    "beacon run": "lydite beacon run beacon --port 8100",
    "attest check": "lydite attest check machine.evidence --reference machine.reference"
    " --challenge challenge.json --policy runtime-policy.json --policy boot.json",
    "attest explain": "lydite attest explain machine.evidence --reference machine.reference"
    " --challenge challenge.json --policy runtime-policy.json --policy boot.json",
    "attest boot": "lydite attest boot binary_bios_measurements --against good.log",
    "passport make": "lydite passport make --model models/lydite-small --prompts prompts.json"
    " --key auditor.key --out bf16.passport.json",
    "passport merge": "lydite passport merge bf16.passport.json fp32.passport.json --signer 3b6a "
    "--name mine --out reference.json",
    "passport show": "lydite passport show bf16.passport.json --plot bf16.svg",
    "passport endorse": "lydite passport endorse candidate.json --key auditor.key --out new.json",
    "lab": "lydite lab --attack int4-weights --attack fp8-cache",
    "selfcheck": "lydite selfcheck http://127.0.0.1:8000 --model models/lydite-small"
    " --passport bf16.passport.json --signer KEY --prompts prompts.json --out selfcheck",
    "plan rollout": "lydite plan rollout --teams 2000 --wage 80",
    "plan coverage": "lydite plan coverage --share 0.05 --vary servers=100,1000,10000",
    "plan upload": "lydite plan upload --size 500e9 --link 25",
    "plan checklist": "lydite plan checklist --attested attested.json",
}
"""The words behind ``lydite`` that make a command, and an example of it."""
