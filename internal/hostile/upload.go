package hostile

import (
	"fmt"
	"strings"
)

// The kinds of error that a verdict may have.
const (
	outOfFuel   = "out_of_fuel"
	overflow    = "stack_overflow"
	trap        = "trap"
	exits       = "exit"
	ruleError   = "rule_error"
	badVerdict  = "bad_verdict"
	outOfMemory = "out_of_memory"
)

// Imports that modules have.
const (
	emit     = "wasmeval.emit i32 i32 i32 -> i32"
	log      = "wasmeval.log i32 i32 i32 ->"
	procExit = "wasi_snapshot_preview1.proc_exit i32 ->"
	clock    = "wasi_snapshot_preview1.clock_time_get i32 i64 i32 -> i32"
	yield    = "wasi_snapshot_preview1.sched_yield -> i32"
	fdWrite  = "wasi_snapshot_preview1.fd_write i32 i32 i32 i32 -> i32"
	fdClose  = "wasi_snapshot_preview1.fd_close i32 -> i32"
	poll     = "wasi_snapshot_preview1.poll_oneoff i32 i32 i32 i32 -> i32"
	random   = "wasi_snapshot_preview1.random_get i32 i32 -> i32"
)

const (
	spin   = "loop br 0 end"
	exit42 = "i32.const 42 call $proc_exit"
	accept = "i32.const 0" // what wasmeval_configure returns for params that it takes
)

// readiness are modules that do harm while they are made ready, before the first event.
func readiness() []Module {
	g := func(set func(*guest)) guest {
		var g guest
		set(&g)
		return g
	}
	exiting := func(set func(*guest)) guest {
		g := guest{imports: []string{procExit}}
		set(&g)
		return g
	}
	return []Module{
		unready("initialize-loop", "_initialize never returns",
			g(func(g *guest) { g.initialize = spin }), "_initialize failed: out_of_fuel"),
		unready("initialize-recursion", "_initialize calls itself for ever",
			g(func(g *guest) { g.initialize = "call $initialize" }), "_initialize failed: stack_overflow"),
		unready("abi-loop", "wasmeval_abi never returns",
			g(func(g *guest) { g.abi = spin + " unreachable" }), "wasmeval_abi failed: out_of_fuel"),
		unready("describe-loop", "wasmeval_manifest never returns",
			g(func(g *guest) { g.describe = spin + " unreachable" }),
			"wasmeval_manifest failed: out_of_fuel"),
		unready("describe-recursion", "wasmeval_manifest calls itself for ever",
			g(func(g *guest) { g.describe = "call $manifest" }), "wasmeval_manifest failed: stack_overflow"),
		unready("describe-trap", "wasmeval_manifest traps",
			g(func(g *guest) { g.describe = "unreachable" }), "wasmeval_manifest failed: trap"),
		unready("describe-yields", "wasmeval_manifest spins in a host function that does nothing",
			guest{imports: []string{yield}, describe: "loop call $sched_yield drop br 0 end unreachable"},
			"wasmeval_manifest failed: out_of_fuel"),
		unready("describe-logs", "wasmeval_manifest logs for ever",
			guest{imports: []string{log},
				describe: "loop i32.const 3 i32.const 1024 i32.const 64 call $log br 0 end unreachable"},
			"wasmeval_manifest failed: out_of_fuel"),
		unready("configure-loop", "wasmeval_configure never returns",
			g(func(g *guest) { g.configure = spin + " unreachable" }),
			"wasmeval_configure failed: out_of_fuel"),
		unready("configure-refuses", "wasmeval_configure refuses whatever it gets",
			g(func(g *guest) { g.configure = "i32.const -1" }), "wasmeval_configure returned"),
		unready("configure-input-loop", "wasmeval_input never returns, for the params",
			g(func(g *guest) { g.configure, g.input = accept, spin+" unreachable" }),
			"wasmeval_input failed: out_of_fuel"),
		unready("configure-input-outside", "the params are to be written past the end of memory",
			g(func(g *guest) { g.configure, g.input = accept, "i32.const -8" }), "outside of memory"),
		unready("abi-2", "an ABI that there is not", g(func(g *guest) { g.abi = "i32.const 2" }),
			"wasmeval_abi returned 2"),
		unready("exit-initialize", "exits in _initialize",
			exiting(func(g *guest) { g.initialize = exit42 }), "exited with code 42"),
		unready("exit-abi", "exits in wasmeval_abi, with success", exiting(func(g *guest) {
			g.abi = "i32.const 0 call $proc_exit i32.const 1"
		}), "exited with code 0"),
		unready("exit-manifest", "exits in wasmeval_manifest", exiting(func(g *guest) {
			g.describe = exit42 + " unreachable"
		}), "exited with code 42"),
		unready("exit-configure", "exits in wasmeval_configure", exiting(func(g *guest) {
			g.configure = exit42 + " unreachable"
		}), "exited with code 42"),
		unready("data-outside", "a data segment one byte past the end of memory",
			guest{segments: [][]byte{active(2*65536-1, b(1, 2))}}, "out of bounds memory access"),
		unready("data-minus-1", "a data segment at address -1, which is 4 GiB less one byte",
			guest{segments: [][]byte{active(-1, b(1))}}, "out of bounds memory access"),
		refused("element-outside", "an element segment past the end of its table, which wazero leaves out",
			guest{tables: []string{"funcref 2"}, elements: [][]byte{elements(1, 2, 0)}}.build(), badIndex,
			"its table has 2 entries"),
		unready("describe-subnormal", "a manifest function that multiplies the slowest of numbers",
			guest{describe: subnormal + " unreachable"}, "wasmeval_manifest failed: out_of_fuel"),
		unready("describe-grow", "a manifest function that grows its memory by nothing, for ever",
			guest{describe: "loop i32.const 0 memory.grow drop br 0 end unreachable"},
			"wasmeval_manifest failed: out_of_fuel"),
		unready("memory-none", "a memory of no pages, in which no manifest can be",
			guest{pages: -1, replace: map[byte][]byte{secData: b(0)}}, "outside of memory"),
	}
}

// manifests are modules whose manifest is what does harm.
func manifests() []Module {
	m := func(name, attack, text, message string) Module {
		return unready("manifest-"+name, attack, guest{manifest: text, pages: 4}, message)
	}
	at := func(name, attack string, ptr, n int64, message string) Module {
		return unready("manifest-"+name, attack, guest{describe: fmt.Sprintf(
			"i64.const %d i64.const 32 i64.shl i64.const %d i64.or", ptr, n)}, message)
	}
	list := func(n int, item string) string {
		return strings.TrimSuffix(strings.Repeat(item+",", n), ",")
	}
	field := func(path, typ string) string {
		return fmt.Sprintf(`{"fields":[{"path":%q,"type":%q}]}`, path, typ)
	}
	param := func(rest string) string { return `{"params":[{"name":"p",` + rest + `}]}` }
	deep := strings.Repeat("[", 30_000)
	needs := m("param-needed", "a param that nobody gave", param(`"type":"f64"`), `"p" has no default`)
	needs.Code = guest{manifest: param(`"type":"f64"`), configure: accept}.build()
	return []Module{
		at("outside", "the manifest lies past the end of memory", 1<<17, 10, "outside of memory"),
		at("wraps", "the manifest ends past 4 GiB, at address 1 if that wraps", most, 2,
			"outside of memory"),
		at("4g", "a manifest of 4 GiB", 0, most, "4294967295 bytes"),
		at("64k", "a manifest of 64 KiB and one byte", 1024, 64<<10+1, "65537 bytes"),
		at("empty", "a manifest of no bytes", 0, 0, "cannot read the manifest"),
		m("not-utf8", "a manifest that is not UTF-8", "{\"description\":\"\xff\xfe\"}", "not UTF-8"),
		m("not-json", "a manifest that is not JSON", "<manifest/>", "cannot read the manifest"),
		m("not-an-object", "a manifest that is an array", "[]", "cannot read the manifest"),
		m("two", "a manifest with another one after it", plain+plain, "text after its object"),
		m("unknown-key", "a manifest with a key that there is not", `{"fuel":1000000000000}`,
			"unknown field"),
		m("deep", "a manifest of 30,000 arrays, each in the one before", deep,
			"cannot read the manifest"),
		m("deep-default", "a param's default of as many arrays",
			param(`"type":"f64","default":`+deep+strings.Repeat("]", 30_000)), "cannot read the manifest"),
		m("deep-match", "arrays where patterns should be",
			`{"match":`+deep[:5000]+"1"+strings.Repeat("]", 5000)+"}", "cannot read the manifest"),
		m("65-fields", "one field too many", `{"fields":[`+list(65, `{"path":"a","type":"f64"}`)+"]}",
			"65 fields"),
		m("2400-fields", "as many fields as 64 KiB can hold",
			`{"fields":[`+list(2400, `{"path":"a","type":"f64"}`)+"]}", "2400 fields"),
		m("65-params", "one param too many", `{"params":[`+list(65, `{"name":"a","type":"f64"}`)+"]}",
			"65 params"),
		m("65-patterns", "one pattern too many", `{"match":[`+list(65, `"a"`)+"]}", "65 match patterns"),
		m("pattern-empty", "a pattern of no bytes", `{"match":[""]}`, "match pattern"),
		m("pattern-long", "a pattern of 32 KiB", `{"match":["`+strings.Repeat("a", 32<<10)+`"]}`,
			"match pattern"),
		m("path-long", "a path of 32 KiB", field(strings.Repeat("a", 32<<10), "f64"), "32768 bytes"),
		m("path-empty-keys", "a path of dots", field("......", "f64"), "path"),
		m("path-index-huge", "an index of 2^64", field("a[18446744073709551616]", "f64"),
			"expected an index"),
		m("type-unknown", "a column type that there is not", field("a", "v128"), `"v128"`),
		m("whole-as-number", "the whole event as a number", field("$", "f64"), "expected json"),
		m("param-twice", "two params of one name",
			`{"params":[`+list(2, `{"name":"a","type":"f64","default":1}`)+"]}", "no other param has"),
		m("param-default-type", "a default of another type", param(`"type":"bool","default":1`),
			"expected a value of type bool"),
		m("param-default-infinite", "a default that is infinite", param(`"type":"f64","default":1e999`),
			"expected a value of type f64"),
		m("param-unconfigured", "a param, but nothing that takes it", param(`"type":"f64","default":1`),
			"does not export"),
		needs,
	}
}
