package runtime

import (
	"encoding/json"
	"time"

	"wasmeval/runtime/state"
)

// RuleName names a rule: 1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit.
type RuleName string

// VersionNumber counts the versions of one rule from 1.
type VersionNumber uint32

// Generation counts the rule sets that were active since the registry was made.
type Generation uint64

// Policy says what verdict stands for an evaluation that failed.
type Policy string

// The policies. A failed evaluation always has its error in the verdict; the policy decides code.
const (
	FailOpen   Policy = "fail_open"   // code 0: as if the rule had not matched
	FailClosed Policy = "fail_closed" // code 1, or RuleConfig.FailCode
	// FailDefault answers with RuleConfig's FailCode and FailPayload, whatever these are.
	FailDefault Policy = "default_verdict"
)

// RuleConfig is what can be set for a rule beside its module. The zero value is the default.
type RuleConfig struct {
	// Params gives values for the manifest's params, by name. Those left out have their default.
	Params map[string]json.RawMessage `json:"params,omitempty"`
	// Fuel is the budget for one event in units of fuel; 0 means the engine's default.
	Fuel uint64 `json:"fuel,omitempty"`
	// OnFailure is the policy; empty means FailOpen.
	OnFailure Policy `json:"on_failure,omitempty"`
	// FailCode is the code under FailClosed, where 0 means 1, and FailDefault.
	FailCode int32 `json:"fail_code,omitempty"`
	// FailPayload is the payload under FailDefault: any JSON value, or nil.
	FailPayload json.RawMessage `json:"fail_payload,omitempty"`
}

// Field is a column that a rule declares.
type Field struct {
	Path string `json:"path"`
	Type string `json:"type"` // f64, i64, bool, utf8, json
}

// Param is a parameter that a rule declares.
type Param struct {
	Name        string          `json:"name"`
	Type        string          `json:"type"` // f64, i64, bool, utf8
	Default     json.RawMessage `json:"default,omitempty"`
	Description string          `json:"description,omitempty"`
}

// Manifest is what a module says of itself.
type Manifest struct {
	Description string   `json:"description,omitempty"`
	Match       []string `json:"match,omitempty"`
	Fields      []Field  `json:"fields,omitempty"`
	Params      []Param  `json:"params,omitempty"`

	State []state.Spec `json:"state,omitempty"` // what the rule keeps for each key
}

// Version is one module that was uploaded for a rule.
type Version struct {
	Number   VersionNumber `json:"version"`
	SHA256   string        `json:"sha256"` // hex
	Bytes    int           `json:"bytes"`
	Uploaded time.Time     `json:"uploaded"`
	By       string        `json:"by"`
	Manifest Manifest      `json:"manifest"`
	Active   bool          `json:"active"`
	Config   *RuleConfig   `json:"config,omitempty"` // that it has or would come back with, if there is one
}

// Rule is one rule as the registry has it.
type Rule struct {
	Name     RuleName      `json:"name"`
	Active   VersionNumber `json:"active"` // 0: no version was activated yet
	Previous VersionNumber `json:"previous,omitempty"`
	Enabled  bool          `json:"enabled"`
	Versions int           `json:"versions"`
	Updated  time.Time     `json:"updated"`
	Config   RuleConfig    `json:"config"`
	Manifest *Manifest     `json:"manifest,omitempty"` // of the active version
	Error    string        `json:"error,omitempty"`    // why an active rule could not be loaded at start

	Quarantine *Quarantine `json:"quarantine,omitempty"` // nil while the rule is called

	State []StateStats `json:"state,omitempty"` // what it has of each state that it declares
}

// Swap is the proof of a change of what is active.
type Swap struct {
	Generation Generation `json:"generation"`
	Drained    int        `json:"drained"` // events that the previous generation finished during the swap
	TookMicros int64      `json:"took_us"` // from the publication until the previous generation was gone
	Lost       int64      `json:"lost"`    // the ledger's difference

	Running VersionNumber `json:"running"` // of the rule, from now on; 0: none
}

// PutResult tells what an upload did.
type PutResult struct {
	Rule    RuleName      `json:"rule"`
	Version VersionNumber `json:"version"`
	SHA256  string        `json:"sha256"`
	Created bool          `json:"created"` // false: these bytes were a version already
	Active  VersionNumber `json:"active"`  // the active version now
	Swap    *Swap         `json:"swap,omitempty"`
}

// PutOptions says how to upload.
type PutOptions struct {
	Activate bool
	Config   *RuleConfig // the version's; nil: the one that it was active with last, or else the rule's
	By       string      // who, for the audit trail
}

// Audit is one change, as the audit trail keeps it.
type Audit struct {
	Seq     uint64        `json:"seq"`
	Time    time.Time     `json:"time"`
	By      string        `json:"by"`
	Action  string        `json:"action"` // put, activate, rollback, enable, disable, configure, delete
	Rule    RuleName      `json:"rule"`
	Version VersionNumber `json:"version,omitempty"`
	SHA256  string        `json:"sha256,omitempty"`
}

// TestEvent is one event given to Engine.Test. Type, ID and so on stand in JSON, as in the stream.
type TestEvent = json.RawMessage

// TestVerdict explains what a version said of one event.
type TestVerdict struct {
	Index   int             `json:"index"`
	Matched bool            `json:"matched"` // the rule's match names the event's type
	Code    int32           `json:"code"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Error   *VerdictError   `json:"error,omitempty"`
	Fuel    uint64          `json:"fuel"`
	TookNS  int64           `json:"took_ns"`
	Fields  []TestField     `json:"fields,omitempty"`
	Logs    []TestLog       `json:"logs,omitempty"`
}

// TestField is what one column held for the event.
type TestField struct {
	Field
	Valid bool            `json:"valid"`
	Value json.RawMessage `json:"value,omitempty"`
}

// TestLog is a line that the rule logged.
type TestLog struct {
	Level string `json:"level"` // debug, info, warn, error
	Text  string `json:"text"`
}

// The kinds of failure that a verdict's error may have.
const (
	FaultFuel        = "out_of_fuel"
	FaultStack       = "stack_overflow"
	FaultTrap        = "trap"
	FaultExit        = "exit"          // the rule called proc_exit
	FaultRule        = "rule_error"    // wasmeval_evaluate returned something else than 0
	FaultVerdict     = "bad_verdict"   // a verdict below 0
	FaultMemory      = "out_of_memory" // no place for the batch
	FaultInstantiate = "instantiate"   // no fresh instance could be made
	FaultQuarantine  = "quarantined"   // the rule failed too often and was not called
)

// VerdictError says why an evaluation failed.
type VerdictError struct {
	Kind    string `json:"kind"`    // one of the Fault constants
	Message string `json:"message"` // one line
	// Trace has the calls that it happened in, the innermost first, each with its line if the module
	// has debug information. It has at most 16, each of at most about 400 bytes.
	Trace []string `json:"trace,omitempty"`
}

// Error is the message, with the kind before it.
func (e *VerdictError) Error() string { return e.Kind + ": " + e.Message }

// Router takes the verdicts of the workers. Its methods are called by all workers at once and must
// not wait.
type Router interface {
	// Wants reports whether any route takes such a verdict, so that none is encoded in vain.
	Wants(rule string, code int32, failed bool) bool
	// Route takes one verdict: a JSON object without a newline, valid until Route returns.
	Route(rule string, code int32, failed bool, verdict []byte)
}
