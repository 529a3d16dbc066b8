"""Makes contract.json, what the double needs of the IPU's API contract, from the whole of it.

python tests/poplar/reduce_contract.py ../shared/ipu/api_contract.json

The contract was read off Graphcore's public sources, which it names. What is kept are names, parameters,
defaults, enumerations and configuration options.
"""

import ast
import json
import sys
from pathlib import Path

MODULES = (
    "tensorflow.python.ipu.config.",
    "tensorflow.python.ipu.ipu_strategy.",
    "tensorflow.python.ipu.ipu_infeed_queue.",
    "tensorflow.python.ipu.ipu_outfeed_queue.",
    "tensorflow.python.ipu.gradient_accumulation.",
    "tensorflow.python.ipu.loops.",
    "tensorflow.python.ipu.scopes.",
    "tensorflow.python.ipu.utils.",
    "tensorflow.python.ipu.ops.all_to_all_op.",
    "tensorflow.python.ipu.ops.cross_replica_ops.",
    "tensorflow.python.ipu.ops.replication_ops.",
    "tensorflow.python.ipu.distributed.popdist_strategy.",
    "keras.ipu.extensions.",
    "ipu_tensorflow_addons.",
)
FIELDS = ("kind", "parameters", "also_reachable_as", "member_values", "attribute_tree", "target")


def reduced(contract):
    symbols = {
        name: {field: entry[field] for field in FIELDS if entry.get(field)}
        for name, entry in contract["symbols"].items()
        if name.startswith(MODULES)
    }
    for name, entry in symbols.items():
        members = contract["symbols"][name].get("members")
        if members and "member_values" not in entry:
            entry["member_values"] = {member: ast.literal_eval(value) for member, value in members.items()}
    return {
        "sources": contract["_meta"]["sources"],
        "symbols": symbols,
        "binary_only": [name for name in contract["binary_only"] if name.startswith("popdist.")],
        "overrides_refused_in_fit": contract["keras_hooks"]["overrides_refused_in_fit"],
    }


if __name__ == "__main__":
    content = reduced(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    symbols = content.pop("symbols")
    lines = [f"{json.dumps(name)}: {json.dumps(symbols[name], sort_keys=True)}" for name in sorted(symbols)]
    text = json.dumps(content, indent=1)[:-2] + ',\n "symbols": {\n  ' + ",\n  ".join(lines) + "\n }\n}\n"
    Path(__file__).with_name("contract.json").write_text(text, encoding="utf-8")
