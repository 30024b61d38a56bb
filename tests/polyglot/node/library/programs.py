"""Programs of the Node library's callers, and what they print."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

LONGEST_S = 200

START = """
import {{ readFileSync, createReadStream }} from 'node:fs';
import {{ isDeepStrictEqual }} from 'node:util';
import * as csm from '{folder}/index.mjs';

const {{ Client, details, wav }} = csm;
const target = process.argv[2];
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const client = new Client(target, {{ deadlineSeconds: 100 }});
const found = [];
const tell = async (work) => {{
  try {{
    found.push(await work());
  }} catch (error) {{
    found.push(error.metadata === undefined ? error.message : [details(error).reason, error.message]);
  }}
}};
const heard = async (stream) => {{
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}};
"""
END = """
console.log(JSON.stringify(found));
client.close();
"""


async def found(program: str, node: Any, folder: Path, target: str) -> list[Any]:
    """What the program has pushed to `found`, also by `tell`: of a failed call [reason, message], of another error its
    message.
    """
    (folder / "program.mjs").write_text(START.format(folder=node.folder) + program + END)
    command = ["node", "program.mjs", target]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    assert done.returncode == 0, done.stderr
    values: list[Any] = json.loads(done.stdout)
    return values
