package hostile

import "slices"

// features are modules with what is not offered, each feature by a module of its own.
func features() []Module {
	instruction := func(name, what, code, want string) Module {
		return refused(name, what, guest{attack: code}.build(), opcodeNo, want)
	}
	g := guest{}
	return []Module{
		refused("start-loop",
			"a start section whose function never returns: it would run before any limit",
			guest{more: []function{{name: "spin", sig: "->", code: "loop br 0 end"}}}.with(secStart,
				5).build(), start, "start section"),
		refused("memory64", "a memory with 64-bit addresses", g.with(secMemory, 1, 4, 2).build(),
			unoffered, "64-bit"),
		refused("shared-memory", "a memory to be shared by threads",
			g.with(secMemory, 1, 3, 2, 2).build(), unoffered, "shared"),
		refused("page-size", "a memory with pages of one byte", g.with(secMemory, 1, 8, 2, 0).build(),
			unoffered, "flags 0x08"),
		refused("multi-memory", "two memories", g.with(secMemory, 2, 0, 1, 0, 1).build(), limit,
			"2 memory entries"),
		refused("multi-memory-load", "a load that names a second memory",
			guest{attack: "i32.const 0 0x28 0x40 1 0 drop"}.build(), unoffered,
			"several memories"),
		refused("multi-memory-copy", "a copy between two memories",
			guest{attack: repeat(3, "i32.const 0") + "0xfc 10 0 1"}.build(), unoffered,
			"more than one memory"),
		refused("table64", "a table with 64-bit indexes", g.with(secTable, 1, 0x70, 4, 1).build(),
			unoffered, "64-bit"),
		refused("table-init-expression", "a table with an initialiser",
			g.with(secTable, 1, 0x40, 0, 0x70, 0, 1, 0xd0, 0x70, 0x0b).build(), unoffered,
			"reference type 0x40"),
		refused("gc-struct-type", "a struct type of the garbage collection proposal",
			types(b(0x5f, 1, 0x7f, 0)).build(), unoffered, "garbage collected"),
		refused("gc-recursive-types", "a group of recursive types", types(b(0x4e, 1, 0x60, 0, 0)).build(),
			unoffered, "type form 0x4e"),
		refused("typed-reference", "a param that is a typed function reference",
			types(b(0x60, 1, 0x64, 0, 0)).build(), unoffered, "value type 0x64"),
		refused("exception-reference", "a param that is an exception", types(b(0x60, 1, 0x69, 0)).build(),
			unoffered, "value type 0x69"),
		refused("exception-tag", "a tag section", append(g.build(), section(13, b(1, 0, 0))...),
			unoffered, "section 13"),
		instruction("exception-try", "a try block", "try end", "0x06 (exceptions)"),
		instruction("exception-throw", "a throw", "throw 0", "0x08 (exceptions)"),
		instruction("exception-try-table", "a try_table", "try_table end", "0x1f (exceptions)"),
		instruction("gc-struct-new", "an object on a heap of the engine's", "struct.new_default 0 drop",
			"0xfb (garbage collection)"),
		instruction("gc-i31", "an integer as a reference", "i32.const 1 ref.i31 drop",
			"0xfb (garbage collection)"),
		instruction("tail-call",
			"a loop without a loop or a stack: a function that returns by calling itself",
			"local.get 0 local.get 1 return_call $attack", "0x12 (tail calls"),
		instruction("tail-call-indirect", "the same through a table",
			"i32.const 0 return_call_indirect 0 0", "0x13 (tail calls"),
		instruction("call-ref", "a call of a typed reference", "ref.null func call_ref 0",
			"0x14 (tail calls"),
		instruction("ref-func",
			"a reference to a function in a loop: the engine keeps a record of each one that is made",
			"loop ref.func $attack drop br 0 end", "ref.func"),
		instruction("threads-wait", "a wait for a notification that never comes",
			"i32.const 0 i32.const 0 i64.const -1 memory.atomic.wait32 0 drop", "0xfe (threads)"),
		instruction("threads-add", "an atomic addition",
			"i32.const 0 i32.const 1 i32.atomic.rmw.add 0 drop", "0xfe (threads)"),
		instruction("relaxed-vectors", "an instruction with results that differ between machines",
			"v128.const 0 i32x4.relaxed_trunc_f32x4_s drop", "relaxed vectors"),
		instruction("wide-arithmetic", "an addition of 128 bits",
			repeat(4, "i64.const 0")+"i64.add128 drop drop", "0xfc 19"),
		instruction("stack-switching", "a coroutine that suspends", "suspend 0", "0xe2"),
		instruction("opcode-unknown", "an opcode that nobody has", "0xff", "0xff"),
	}
}

// constants are modules whose initialisers are not one constant.
func constants() []Module {
	return []Module{
		refused("extended-constant", "an initialiser that adds",
			guest{globals: []string{"i32 i32.const 1 i32.const 2 i32.add"}}.build(), opcodeNo,
			"expected its end after one constant"),
		refused("constant-calls", "an initialiser that calls a function",
			guest{globals: []string{"i32 call 0"}}.build(), opcodeNo, "expected a constant"),
		refused("constant-global", "an initialiser that reads a global after it",
			guest{globals: []string{"i32 global.get 1", "i32 i32.const 0"}}.build(), opcodeNo,
			"expected a constant"),
	}
}

// imports are modules that import what is not offered.
func imports() []Module {
	imported := func(module, name string, kind ...byte) []byte {
		return guest{}.with(secImport, slices.Concat(b(1), sized([]byte(module)), sized([]byte(name)),
			kind)...).build()
	}
	return []Module{
		refused("import-unknown", "a function of the host that there is not",
			imported("env", "system", 0, 0), badImport, "env.system is not offered"),
		refused("import-files", "a WASI function that opens files",
			imported("wasi_snapshot_preview1", "path_open", 0, 0), badImport, "path_open is not offered"),
		refused("import-sockets", "a WASI function for sockets",
			imported("wasi_snapshot_preview1", "sock_accept", 0, 0), badImport,
			"sock_accept is not offered"),
		refused("import-strings", "string builtins of JavaScript",
			imported("wasm:js-string", "concat", 0, 0), badImport, "is not offered"),
		refused("import-signature",
			"emit with another signature: it would read a stack that is not there",
			imported("wasmeval", "emit", 0, 0), badImport, "emit has signature () -> ()"),
		refused("import-memory", "a memory of the host's", imported("env", "memory", 2, 0, 1), badImport,
			"is not a function"),
		refused("import-table", "a table of the host's", imported("env", "table", 1, 0x70, 0, 1),
			badImport, "is not a function"),
		refused("import-fuel", "the fuel, as a global of the host's",
			imported("wasmeval", "wasmeval_fuel", 3, 0x7e, 1), badImport, "is not a function"),
		refused("import-type", "an import whose type there is not", imported("wasmeval", "emit", 0, 100),
			badIndex, "there is no type 100"),
	}
}

// exports are modules that export what they must not, or not what they must.
func exports() []Module {
	with := func(e []byte) []byte { return guest{exports: [][]byte{e}}.build() }
	only := func(e ...[]byte) []byte {
		return guest{}.with(secExport, append(u(len(e)), slices.Concat(e...)...)...).build()
	}
	global := func(name, typ string) []byte {
		return guest{globals: []string{typ}, exports: [][]byte{exported(name, 3, 0)}}.build()
	}
	return []Module{
		refused("export-twice", "two exports named memory", with(exported("memory", 2, 0)), badExport,
			`"memory" is doubled`),
		refused("export-evaluate-twice", "two exports named wasmeval_evaluate",
			with(exported("wasmeval_evaluate", 0, 0)), badExport, "is doubled"),
		refused("export-fuel", "an export that hides the fuel",
			global("wasmeval_fuel", "i64 i64.const 1"), badExport, "reserved"),
		refused("export-depth", "an export that hides the depth",
			global("wasmeval_depth", "i32 i32.const 1"), badExport, "reserved"),
		refused("export-global", "an export that hides a global of the metering",
			global("wasmeval_global_0", "i32 i32.const 1"), badExport, "reserved"),
		refused("export-look-alike", "wasmeval_evaluate with a space of no width in it",
			with(exported("wasmeval_eval\u200buate", 0, 3)), badExport, "reserved"),
		refused("export-past-end", "an export of a function that there is not",
			with(exported("f", 0, 99)), badIndex, "there is no function 99"),
		always("export-memory-again", "the memory under two names",
			guest{exports: [][]byte{exported("memory2", 2, 0)}}, Verdict{Code: 1}),
		unreadyBytes("memory-is-a-function", "memory names a function", only(exported("memory", 0, 0)),
			"does not export its memory"),
		unreadyBytes("evaluate-is-a-memory", "wasmeval_evaluate names the memory",
			only(exported("memory", 2, 0), exported("wasmeval_evaluate", 2, 0)), "does not export"),
		unreadyBytes("evaluate-signature", "wasmeval_evaluate takes nothing: the host would pass a param",
			only(exported("memory", 2, 0), exported("wasmeval_abi", 0, 0), exported("wasmeval_manifest", 0,
				1), exported("wasmeval_input", 0, 2), exported("wasmeval_evaluate", 0, 0)),
			`"wasmeval_evaluate" has signature`),
	}
}

// indexes are modules that name by its index what is not theirs, or confuse what the metering adds.
func indexes() []Module {
	attack := func(code string) []byte {
		return guest{attack: code, globals: []string{"i32 i32.const 0"}}.build()
	}
	return []Module{
		refused("fuel-get", "reads the fuel, by the index that the metering gives it",
			attack("global.get 1 drop"), badIndex, "there is no global 1"),
		refused("fuel-set", "sets the fuel, by the index that the metering gives it",
			attack("i64.const 0x7fffffffffffffff global.set 1"), badIndex, "there is no global 1"),
		refused("depth-set", "sets the depth, by the index that the metering gives it",
			attack("i32.const 0x7fffffff global.set 2"), badIndex, "there is no global 2"),
		refused("metering-local", "reads a local that the metering adds", attack("local.get 6 drop"),
			badIndex, "there is no local 6"),
		refused("metering-type", "a block with a type that the metering adds", attack("block 6 end"),
			badIndex, "a block has type 6"),
		refused("label-past-end", "a branch out of the function, past the block that the metering adds",
			attack("br 1"), badIndex, "there is no label 1"),
		refused("call-past-end", "a call of a function that there is not", attack("call 99"), badIndex,
			"there is no function 99"),
		refused("data-past-end", "a memory.init of a segment that there is not",
			guest{segments: [][]byte{passive(b(1))}, attack: repeat(3, "i32.const 0") +
				"memory.init 2"}.build(), badIndex, "there is no data segment 2"),
		unreadyBytes("steals-fuel",
			"leaves an i64 on the stack for the charge at a loop's header to take",
			guest{attack: "i64.const 9 loop end"}.build(), "not valid WebAssembly"),
		unreadyBytes("steals-result",
			"a branch with too few values, past the block that the metering adds",
			guest{more: []function{{name: "f", sig: "-> i32", code: "br 0"}, {name: "g", sig: "-> i32",
				code: "call $f return"}}}.build(), "not valid WebAssembly"),
		unreadyBytes("type-confusion", "an f64 as an address",
			guest{attack: "f64.const 1 i32.load 0 drop"}.build(), "not valid WebAssembly"),
	}
}
