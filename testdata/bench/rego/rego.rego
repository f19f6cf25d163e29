# build: opa build -t wasm -e rules/evaluate -o rego.tar.gz rego.rego && tar xzf rego.tar.gz /policy.wasm && wasm2wat policy.wasm | sed 's,(import "env" "memory" (memory (;0;) 2)),(memory 2),; s,(start \([^)]*\)),(export "_initialize" (func \1)),' >policy.wat && wat2wasm -o rego.wasm policy.wat && rm rego.tar.gz policy.wasm policy.wat
# A policy over the event that ../README.md describes, evaluated by opa_eval from JSON to JSON. What opa
# makes imports its memory and has a start section, so both are changed into what a rule may have.
package rules

default evaluate := {"code": 0}

evaluate := {"code": 1, "reasons": reasons} if {
	count(reasons) > 0
}

reasons contains "amount" if {
	input.amount > 1000
	input.currency == "EUR"
}

reasons contains "level" if {
	input.user.level < 5
	some tag in input.tags
	tag in {"new", "vpn", "tor"}
}
