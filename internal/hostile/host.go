package hostile

import (
	"fmt"
	"slices"
	"strings"
)

// returns is a module that calls the host; its code is what the host's function returned, and 10.
func returns(name, what, text, call string, want int32) Module {
	return says(name, what, guest{imports: []string{text}, attack: "local.get 0 " + call +
		" i32.const 10 i32.add i32.store 0"}, 10+want)
}

// flood is a module that calls the host for ever. At 4096 it has a payload of 10,016 bytes, and at
// 20480 as many [ as a payload may have bytes.
func flood(name, what, text, call string) Module {
	return fails(name, what, guest{imports: []string{text}, attack: "loop " + call + " br 0 end",
		segments: [][]byte{active(4096, []byte(`{"a":[1,2,3,"`+strings.Repeat("x", 10_000)+`"]}`)),
			active(20480, []byte(strings.Repeat("[", 16<<10)))}}, outOfFuel)
}

// args is constants for the params of a call.
func args(v ...int64) string {
	out := ""
	for _, n := range v {
		out += fmt.Sprintf("i32.const %d ", n)
	}
	return out
}

// payloads are modules that misuse emit.
func payloads() []Module {
	const row = "local.get 1 " // of the event that the attack is for
	return []Module{
		returns("emit-no-row", "a payload for a row that there is not", emit,
			args(65535, 0, 1)+"call $emit", 1),
		returns("emit-row-minus-1", "a payload for row -1", emit, args(-1, 0, 1)+"call $emit", 1),
		returns("emit-wraps", "a payload that ends past 4 GiB", emit, row+args(-1, 2)+"call $emit", 2),
		returns("emit-4g", "a payload of 4 GiB less one byte", emit, row+args(0, -1)+"call $emit", 2),
		returns("emit-outside", "a payload one byte past the end of memory", emit,
			row+args(131071, 2)+"call $emit", 2),
		returns("emit-large", "a payload of 64 KiB", emit, row+args(0, 65536)+"call $emit", 3),
		returns("emit-zeros", "a payload of zeros", emit, row+args(8192, 100)+"call $emit", 4),
		returns("emit-nothing", "a payload of no bytes", emit, row+args(8192, 0)+"call $emit", 4),
		emits("emit-deep", "a payload of 16 KiB of [", strings.Repeat("[", 16<<10), 4),
		emits("emit-nan", "a payload that is NaN, as some parsers take it", "nan", 4),
		emits("emit-two", "a payload of two values, to end the verdict's JSON early", `1},{"code":2`, 4),
		emits("emit-newline", "a string with a newline, to end the verdict's line early", "\"a\nb\"", 4),
		emits("emit-not-utf8", "a string that is not UTF-8", "\"\xff\xfe\"", 4),
		emits("emit-surrogate", "a payload with half of a surrogate pair", `"\ud800"`, 4),
		always("emit-in-input", "payloads while it is asked for a place, for rows of the batch before",
			guest{imports: []string{emit}, segments: [][]byte{active(4096, []byte(`{"a":1}`))},
				input: args(0, 4096, 7) + "call $emit drop i32.const 65536"}, Verdict{Code: 1}),
		flood("emit-flood", "payloads of 10 KiB, for ever", emit,
			row+args(4096, 10_016)+"call $emit drop"),
		flood("emit-deep-flood", "payloads of 16 KiB of [, for ever", emit,
			row+args(20480, 16<<10)+"call $emit drop"),
		flood("emit-refused-flood", "payloads that are outside of memory, for ever", emit,
			row+args(-1, -1)+"call $emit drop"),
	}
}

// hostCalls are modules that misuse what else the host offers.
func hostCalls() []Module {
	return []Module{
		flood("log-flood", "lines of 1 KiB, for ever", log, args(3, 4096, 1024)+"call $log"),
		flood("log-bytes-flood", "lines of one byte, for ever", log, args(3, 4096, 1)+"call $log"),
		flood("log-outside-flood", "lines outside of memory, for ever", log, args(3, -1, -1)+"call $log"),
		says("log-binary", "lines of all bytes there are, of levels that there are not",
			guest{imports: []string{log}, segments: [][]byte{active(4096, allBytes())},
				attack: args(-7, 4096, 256) + "call $log " + args(99, 4096, 256) + "call $log"}, 1),
		says("log-4g", "lines that wrap, and one of 4 GiB",
			guest{imports: []string{log}, attack: args(1, -1, 2) + "call $log " + args(1, 0, -1) +
				"call $log"}, 1),
		flood("clock-loop", "asks for the time, for ever", clock,
			"i32.const 0 i64.const 0 i32.const 0 call $clock_time_get drop"),
		flood("yield-loop", "yields, for ever", yield, "call $sched_yield drop"),
		flood("close-loop", "closes a file, for ever", fdClose, "i32.const 0 call $fd_close drop"),
		returns("clock-outside", "the time past the end of memory", clock,
			"i32.const 0 i64.const 0 i32.const -4 call $clock_time_get", 21),
		flood("random-storm", "random bytes over all of memory, for ever", random,
			args(0, 131072)+"call $random_get drop"),
		returns("random-4g", "4 GiB of random bytes", random, args(0, -1)+"call $random_get", 21),
		returns("poll-4g", "a wait for 2^32-1 things", poll, args(0, 0, -1, 0)+"call $poll_oneoff", 28),
		returns("poll-wraps", "things to wait for past 4 GiB", poll,
			args(-48, -32, 64, 0)+"call $poll_oneoff", 21),
		flood("poll-loop", "waits for 64 things that do not come, for ever", poll,
			args(8192, 16384, 64, 4096)+"call $poll_oneoff drop"),
		returns("write-4g", "2^32-1 buffers to write", fdWrite, args(1, 0, -1, 0)+"call $fd_write", 28),
		returns("write-wraps", "buffers to write past 4 GiB", fdWrite, args(1, -8, 2, 0)+"call $fd_write",
			21),
		returns("write-other", "writes to file 3", fdWrite, args(3, 0, 1, 0)+"call $fd_write", 8),
		fails("write-bomb", "64 buffers to write, each of them all of memory",
			guest{imports: []string{fdWrite},
				segments: [][]byte{active(8192, []byte(strings.Repeat("\x00\x00\x00\x00\x00\x00\x02\x00",
					64)))}, attack: args(1, 8192, 64, 4096) + "call $fd_write drop"}, outOfFuel),
		flood("write-newlines", "lines of no bytes, for ever", fdWrite,
			args(2, 8192, 0, 4096)+"call $fd_write drop"),
		fails("exit-evaluate", "exits in wasmeval_evaluate, with success",
			guest{imports: []string{procExit}, attack: args(0) + "call $proc_exit"}, exits),
		fails("exit-recursion", "exits from the bottom of 1,000 calls",
			guest{imports: []string{procExit}, attack: "i32.const 1000 call $f",
				more: []function{{name: "f", sig: "i32 ->", code: "local.get 0 i32.eqz " +
					"if i32.const 7 call $proc_exit end local.get 0 i32.const 1 i32.sub call $f"}}}, exits),
		ofTheHost("input-of-the-host", "fd_close as wasmeval_input: what it returns is an address, too",
			"wasmeval_input", 0),
		ofTheHost("evaluate-of-the-host", "fd_close as wasmeval_evaluate", "wasmeval_evaluate",
			0).forAll(ruleError),
		ofTheHost("configure-of-the-host", "random_get as wasmeval_configure", "wasmeval_configure", 1),
	}
}

// emits is a module that emits a payload; its code is what emit returns, and 10.
func emits(name, what, payload string, want int32) Module {
	m := guest{imports: []string{emit}, segments: [][]byte{active(4096, []byte(payload))}}
	m.attack = "local.get 0 local.get 1 " + args(4096, int64(len(payload))) +
		"call $emit i32.const 10 i32.add i32.store 0"
	return says(name, what, m, 10+want)
}

func allBytes() []byte {
	out := make([]byte, 256)
	for i := range out {
		out[i] = byte(i)
	}
	return out
}

// ofTheHost is a rule one of whose functions is the host's own: the import that is given, under the
// name that is given.
func ofTheHost(name, what, export string, imported int) Module {
	own := []struct {
		name     string
		function int
	}{{"wasmeval_abi", 2}, {"wasmeval_manifest", 3}, {"wasmeval_input", 4}, {"wasmeval_evaluate", 5}}
	list := [][]byte{exported("memory", 2, 0), exported(export, 0, imported)}
	for _, e := range own {
		if e.name != export {
			list = append(list, exported(e.name, 0, e.function))
		}
	}
	return always(name, what, guest{imports: []string{fdClose, random}}.with(secExport,
		append(u(len(list)), slices.Concat(list...)...)...), Verdict{Code: 1})
}

// answers are modules whose verdicts are wrong, or are not theirs.
func answers() []Module {
	// $at holds the address of the row's verdict; the batch begins at placeAt.
	put := func(v int64) string { return fmt.Sprintf("local.get 0 i32.const %d i32.store 0", v) }
	return []Module{
		says("code-nan", "a code that is NaN as a float", guest{attack: put(0x7fc00000)}, 0x7fc00000),
		fails("code-minus-nan", "a code that is -NaN as a float", guest{attack: put(-0x400000)},
			badVerdict),
		fails("code-negative", "a code of -1", guest{attack: put(-1)}, badVerdict),
		fails("code-least", "the least code there is", guest{attack: put(-1 << 31)}, badVerdict),
		says("code-most", "the largest code there is", guest{attack: put(1<<31 - 1)}, 1<<31-1),
		always("fails-always", "wasmeval_evaluate always fails", guest{evaluate: "i32.const 1"},
			Verdict{Fault: ruleError}),
		always("traps-always", "wasmeval_evaluate always traps", guest{evaluate: "unreachable"},
			Verdict{Fault: trap}),
		says("header-garbage", "a header of ones, for whoever reads it back",
			guest{evaluate: evaluateRows +
				" drop i32.const 65536 i32.const 255 i32.const 40 memory.fill i32.const 0"}, 1),
		fails("batch-garbage", "ones over all of memory, the batch too, and goes on by what it says",
			guest{attack: "i32.const 0 i32.const 255 i32.const 131072 memory.fill"}, trap),
		says("manifest-rewritten", "writes another manifest over its own, for whoever reads it back",
			guest{attack: "i32.const 1024 i32.const 0 i32.const 100 memory.fill " + put(6)}, 6),
		says("abi-changes", "wasmeval_abi gives another number the second time",
			guest{globals: []string{"i32 i32.const 0"},
				abi: "global.get 0 i32.const 1 i32.add global.set 0 global.get 0"}, 1),
	}
}
