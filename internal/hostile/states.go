package hostile

import "strings"

const (
	stateAdd      = "wasmeval.state_add i32 i32 i32 i32 f64 -> f64"
	stateDistinct = "wasmeval.state_distinct i32 i32 i32 i32 i32 i32 -> i32"
	stateSeen     = "wasmeval.state_seen i32 i32 i32 i32 -> i64"
	stateSet      = "wasmeval.state_set i32 i32 i32 i32 i32 i32 -> i32"
	stateGet      = "wasmeval.state_get i32 i32 i32 i32 i32 i32 -> i32"
)

// remembers is a manifest with one state of each kind, as large as they may be in all.
const remembers = `{"fields":[{"path":"bad","type":"i64"}],"state":[` +
	`{"name":"c","kind":"counter","window_ms":64000,"buckets":64,"keys":20000},` +
	`{"name":"d","kind":"distinct","window_ms":64000,"limit":64,"keys":10000},` +
	`{"name":"s","kind":"seen","keys":20000},` +
	`{"name":"v","kind":"value","bytes":256,"keys":20000}]}`

// stateStorm calls a state function for ever, each time with another key.
func stateStorm(name, what, text, call string) Module {
	return fails(name, what, guest{imports: []string{text}, manifest: remembers,
		attack: "loop local.get $i i32.const 1 i32.add local.set $i " +
			"i32.const 8192 local.get $i i32.store 0 " + call + " drop br 0 end"}, outOfFuel)
}

// answersState is a module whose code is what a state function returned, and 10.
func answersState(name, what, text, call string, want int32) Module {
	return says(name, what, guest{imports: []string{text}, manifest: remembers,
		attack: "local.get 0 " + call + " i32.const 10 i32.add i32.store 0"}, 10+want)
}

// badState is a module whose manifest declares a state that there cannot be.
func badState(name, what, state, message string) Module {
	return unready(name, what, guest{manifest: `{"fields":[{"path":"bad","type":"i64"}],"state":[` +
		state + `]}`}, message)
}

// states are modules that misuse keyed state.
func states() []Module {
	const row = "local.get 1 "
	return []Module{
		stateStorm("state-counters", "counters of ever new keys, for ever", stateAdd,
			args(0)+row+args(8192, 4)+"f64.const 1 call $state_add"),
		stateStorm("state-values", "values of 256 bytes under ever new keys, for ever", stateSet,
			args(3)+row+args(8192, 4, 4096, 256)+"call $state_set"),
		stateStorm("state-distinct", "ever new values of one key, for ever", stateDistinct,
			args(1)+row+args(0, 0, 8192, 4)+"call $state_distinct"),
		stateStorm("state-seen", "ever new keys that were not seen, for ever", stateSeen,
			args(2)+row+args(8192, 4)+"call $state_seen"),
		stateStorm("state-long-keys", "keys of 256 bytes, for ever", stateSeen,
			args(2)+row+args(8192, 256)+"call $state_seen"),
		stateStorm("state-refused", "a state that there is not, for ever", stateSeen,
			args(-1)+row+args(8192, 4)+"call $state_seen"),
		answersState("state-no-state", "a state that there is not", stateSet,
			args(99)+row+args(0, 0, 0, 0)+"call $state_set", -3),
		answersState("state-other-kind", "a counter as a value", stateSet,
			args(0)+row+args(0, 0, 0, 0)+"call $state_set", -3),
		answersState("state-no-row", "a row that there is not", stateSet,
			args(3, 65535, 0, 0, 0, 0)+"call $state_set", -3),
		answersState("state-key-wraps", "a key that ends past 4 GiB", stateSet,
			args(3)+row+args(-1, 2, 0, 0)+"call $state_set", -4),
		answersState("state-key-4g", "a key of 4 GiB less one byte", stateSet,
			args(3)+row+args(0, -1, 0, 0)+"call $state_set", -4),
		answersState("state-key-large", "a key of 257 bytes", stateSet,
			args(3)+row+args(0, 257, 0, 0)+"call $state_set", -5),
		answersState("state-value-wraps", "a value that ends past 4 GiB", stateSet,
			args(3)+row+args(0, 0, -1, 2)+"call $state_set", -4),
		answersState("state-value-large", "a value of 257 bytes", stateSet,
			args(3)+row+args(0, 0, 0, 257)+"call $state_set", -5),
		answersState("state-place-4g", "a place of 4 GiB for a value", stateGet,
			args(3)+row+args(0, 0, 0, -1)+"call $state_get", -4),
		badState("state-kind", "a state of a kind that there is not",
			`{"name":"x","kind":"everything"}`, "kind"),
		badState("state-keys", "a state of 2^53 keys",
			`{"name":"x","kind":"seen","keys":9007199254740992}`, "keys"),
		badState("state-memory", "states that are too large together", `{"name":"a","kind":"value",`+
			`"bytes":256,"keys":200000},{"name":"b","kind":"value","bytes":256,"keys":200000}`, "bytes"),
		badState("state-buckets", "a window of 2^31 buckets",
			`{"name":"x","kind":"counter","window_ms":2147483648,"buckets":2147483648}`, "buckets"),
		badState("state-window", "a window of 2^63-1 ms",
			`{"name":"x","kind":"counter","window_ms":9223372036854775807}`, "window_ms"),
		badState("state-flood", "1,000 states", strings.Repeat(`{"name":"x","kind":"seen"},`, 999)+
			`{"name":"x","kind":"seen"}`, "at most 16"),
	}
}
