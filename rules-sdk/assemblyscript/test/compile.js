// Compiles the rules of tests with asc, of PATH or of node_modules.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

// Runs asc in a folder.
export function asc(dir, ...args) {
  const path = [join(root, "node_modules", ".bin"), process.env.PATH].join(delimiter);
  const env = { ...process.env, PATH: path };
  const run = spawnSync("asc", args, { cwd: dir, env, encoding: "utf8" });
  if (run.error) throw new Error("cannot run asc: is it installed?", { cause: run.error });
  if (run.status !== 0) throw new Error(`asc ${args.join(" ")}: ${run.stderr}`);
}

// Calls a function with a new folder, which is gone afterwards.
export function inFolder(f) {
  const dir = mkdtempSync(join(tmpdir(), "wasmeval-rule-"));
  try {
    return f(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

// The module of a rule in test/rules.
export function compile(name) {
  return inFolder((dir) => {
    const made = join(dir, "rule.wasm");
    asc(root, join("test", "rules", name), "--config", "asconfig.json", "-o", made);
    return readFileSync(made);
  });
}
