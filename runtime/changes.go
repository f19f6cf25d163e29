package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// failCode is the code of an evaluation that failed.
func (c *RuleConfig) failCode() int32 {
	switch {
	case c.OnFailure == FailDefault, c.OnFailure == FailClosed && c.FailCode != 0:
		return c.FailCode
	case c.OnFailure == FailClosed:
		return 1
	}
	return 0
}

func (c *RuleConfig) check(l *Limits) error {
	switch c.OnFailure {
	case "", FailOpen, FailClosed, FailDefault:
	default:
		return errorf(BadParams, "on_failure is %q: expected fail_open or fail_closed or default_verdict",
			c.OnFailure)
	}
	if c.FailPayload != nil && c.OnFailure != FailDefault {
		return errorf(BadParams, "fail_payload is given: expected it with on_failure default_verdict only")
	}
	if len(c.FailPayload) > l.PayloadBytes || c.FailPayload != nil && !json.Valid(c.FailPayload) {
		return errorf(BadParams, "fail_payload has %d bytes: expected JSON of at most %d",
			len(c.FailPayload), l.PayloadBytes)
	}
	if c.FailCode < 0 {
		return errorf(BadParams, "fail_code is %d: expected a code above 0", c.FailCode)
	}
	if c.Fuel > l.CallFuel {
		return errorf(BadParams, "fuel is %d: expected at most a call's %d", c.Fuel, l.CallFuel)
	}
	return nil
}

// copy returns a record that may be changed, with everything that a change may touch.
func (r *ruleRecord) copy() *ruleRecord {
	if r == nil {
		return &ruleRecord{Enabled: true}
	}
	c := *r
	c.Versions = slices.Clone(r.Versions)
	return &c
}

// activate makes n the active version of a record, with the configuration that n had.
func (r *ruleRecord) activate(n VersionNumber) {
	if r.Active == n {
		return
	}
	if old := r.version(r.Active); old != nil {
		config := r.Config
		old.Config = &config
	}
	r.Previous, r.Active = r.Active, n
	v := r.version(n)
	if v.Config != nil {
		r.Config, v.Config = *v.Config, nil
	}
}

// configOf is the configuration of a version, or nil if it has none of its own.
func (r *ruleRecord) configOf(v *versionRecord) *RuleConfig {
	if v.Number == r.Active {
		return &r.Config
	}
	return v.Config
}

// running is the version of a record that runs; 0: none.
func (r *ruleRecord) running() VersionNumber {
	if r == nil || !r.Enabled {
		return 0
	}
	return r.Active
}

// inherited adds to the error of an activation where parameters came from that nobody gave with it.
func inherited(err error, old, rec *ruleRecord) error {
	var e *Error
	if old == nil || old.Active == 0 || old.Active == rec.Active || !errors.As(err, &e) || e.Kind != BadParams {
		return err
	}
	if v := old.version(rec.Active); v != nil && v.Config != nil {
		return err
	}
	return errorf(BadParams, "%s; version %d has no configuration of its own, so it takes over that of "+
		"version %d: upload it with one, {} for all defaults", e.Msg, rec.Active, old.Active)
}

// Put adds a module as a version of a rule, and activates it if asked. Bytes that the rule already
// has are no new version. The module is checked, compiled and ready on every worker before anything
// changes; when Put returns, the change is on the disk and in force.
func (e *Engine) Put(ctx context.Context, name RuleName, code []byte, o PutOptions) (PutResult, error) {
	if err := checkName(name); err != nil {
		return PutResult{}, err
	}
	leave, err := e.enter()
	if err != nil {
		return PutResult{}, err
	}
	defer leave()
	prog, err := e.programs.get(ctx, code)
	if err != nil {
		return PutResult{}, err
	}
	defer e.programs.put(prog)
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.rules[name]
	if old == nil && len(e.rules) >= e.limits.Rules {
		return PutResult{}, errorf(LimitExceeded, "there are %d rules: expected at most %d",
			len(e.rules), e.limits.Rules)
	}
	rec := old.copy()
	sha := prog.sha.String()
	res := PutResult{Rule: name, SHA256: sha}
	v := rec.bySHA(sha)
	c := &change{name: name, record: rec, audit: Audit{By: o.By, Action: "put", SHA256: sha}}
	if v == nil {
		if len(rec.Versions) >= e.limits.Versions {
			return PutResult{}, errorf(LimitExceeded, "rule %q has %d versions: expected at most %d",
				name, len(rec.Versions), e.limits.Versions)
		}
		n := VersionNumber(1)
		if len(rec.Versions) > 0 {
			n = rec.Versions[len(rec.Versions)-1].Number + 1
		}
		rec.Versions = append(rec.Versions, versionRecord{Number: n, SHA256: sha, Bytes: len(code),
			Uploaded: time.Now().UTC(), By: o.By, Manifest: prog.manifest})
		v = &rec.Versions[len(rec.Versions)-1]
		res.Created = true
		c.sha, c.code = sha, code
	}
	c.audit.Version, res.Version = v.Number, v.Number
	if o.Activate {
		rec.activate(v.Number)
	}
	if o.Config != nil {
		if err := e.configure(rec, v, o.Config); err != nil {
			return PutResult{}, err
		}
	}
	swap, err := e.apply(ctx, c)
	if err != nil {
		if o.Config == nil {
			err = inherited(err, old, rec)
		}
		return PutResult{}, err
	}
	res.Active = rec.Active
	if o.Activate {
		res.Swap = &swap
	}
	return res, nil
}

// configure gives a version of a record a configuration. That of the active one is checked when it is
// made ready.
func (e *Engine) configure(rec *ruleRecord, v *versionRecord, c *RuleConfig) error {
	if v.Number == rec.Active || rec.Active == 0 {
		rec.Config = *c
	}
	if v.Number == rec.Active {
		return nil
	}
	if err := c.check(&e.limits); err != nil {
		return err
	}
	if _, err := paramsJSON(&v.Manifest, c.Params); err != nil {
		return err
	}
	v.Config = c
	return nil
}

// Activate makes a version the active one, with the configuration that it was active with last, and enables the rule if it was disabled.
func (e *Engine) Activate(ctx context.Context, name RuleName, n VersionNumber, by string) (Swap, error) {
	return e.change(ctx, name, "activate", by, func(r *ruleRecord) error {
		if r.version(n) == nil {
			return errorf(NotFound, "rule %q has no version %d", name, n)
		}
		r.activate(n)
		r.Enabled = true
		return nil
	})
}

// Rollback activates the version that was active before the active one, with the configuration that it
// had.
func (e *Engine) Rollback(ctx context.Context, name RuleName, by string) (Swap, error) {
	return e.change(ctx, name, "rollback", by, func(r *ruleRecord) error {
		if r.Previous == 0 {
			return errorf(Conflict, "rule %q has no version that was active before", name)
		}
		r.activate(r.Previous)
		return nil
	})
}

// Enable puts a disabled rule back to work.
func (e *Engine) Enable(ctx context.Context, name RuleName, by string) (Swap, error) {
	return e.change(ctx, name, "enable", by, func(r *ruleRecord) error {
		if r.Active == 0 {
			return errorf(Conflict, "rule %q has no active version: activate one", name)
		}
		r.Enabled = true
		return nil
	})
}

// Disable takes a rule out of work; its versions and its configuration stay.
func (e *Engine) Disable(ctx context.Context, name RuleName, by string) (Swap, error) {
	return e.change(ctx, name, "disable", by, func(r *ruleRecord) error {
		r.Enabled = false
		return nil
	})
}

// Configure replaces the configuration of a rule's active version.
func (e *Engine) Configure(ctx context.Context, name RuleName, c RuleConfig, by string) (Swap, error) {
	return e.change(ctx, name, "configure", by, func(r *ruleRecord) error {
		r.Config = c
		return nil
	})
}

// Delete takes a rule out of work and removes it with all its versions. The audit trail stays.
func (e *Engine) Delete(ctx context.Context, name RuleName, by string) (Swap, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rules[name] == nil {
		return Swap{}, noRule(name)
	}
	return e.apply(ctx, &change{name: name, audit: Audit{By: by, Action: "delete"}})
}

func noRule(name RuleName) error { return errorf(NotFound, "there is no rule %q", name) }

// change applies edit to a copy of a rule's record.
func (e *Engine) change(ctx context.Context, name RuleName, action, by string,
	edit func(*ruleRecord) error) (Swap, error) {
	leave, err := e.enter()
	if err != nil {
		return Swap{}, err
	}
	defer leave()
	prog, err := e.prefetch(ctx, name, edit)
	if err != nil {
		return Swap{}, err
	}
	defer e.programs.put(prog)
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.rules[name]
	if old == nil {
		return Swap{}, noRule(name)
	}
	rec := old.copy()
	if err := edit(rec); err != nil {
		return Swap{}, err
	}
	swap, err := e.apply(ctx, &change{name: name, record: rec,
		audit: Audit{By: by, Action: action, Version: rec.Active}})
	return swap, inherited(err, old, rec)
}

// prefetch gets the program of the version that edit would make the active one, so that nobody waits
// for mu while a module is compiled. It is nil if the change needs none, or finds for itself why it
// cannot be made.
func (e *Engine) prefetch(ctx context.Context, name RuleName, edit func(*ruleRecord) error) (
	*program, error) {
	var v *versionRecord
	e.mu.Lock()
	if old := e.rules[name]; old != nil {
		rec := old.copy()
		if edit(rec) == nil && rec.Enabled && rec.Active != 0 {
			v = rec.version(rec.Active)
		}
	}
	e.mu.Unlock()
	if v == nil {
		return nil, nil
	}
	return e.programOf(ctx, name, *v)
}

// programOf returns the program of a version, which the caller must put back. It reads the module also
// if the program is loaded: what the registry no longer has whole would be gone after a restart, and must
// not be acknowledged. The caller has entered.
func (e *Engine) programOf(ctx context.Context, name RuleName, v versionRecord) (*program, error) {
	code, err := e.moduleOf(name, v)
	if err != nil {
		return nil, err
	}
	return e.programs.of(ctx, v.SHA256, func(string) ([]byte, error) { return code, nil })
}

// moduleOf reads the module of a version. If that has gone meanwhile, the rule was deleted. The caller
// has entered.
func (e *Engine) moduleOf(name RuleName, v versionRecord) ([]byte, error) {
	code, err := e.registry.module(v.SHA256)
	if err == nil {
		return code, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if rec := e.rules[name]; rec == nil || rec.bySHA(v.SHA256) == nil {
		return nil, noRule(name)
	}
	return e.registry.module(v.SHA256) // or it was put again since
}

// apply makes a change ready, writes it down, and then publishes it; so a crash at any moment leaves
// either the old state or the new one, and what was acknowledged is on the disk. If the change does
// not touch what is running, the generation stays. The caller holds mu.
func (e *Engine) apply(ctx context.Context, c *change) (Swap, error) {
	if e.closed {
		return Swap{}, errorf(ShuttingDown, "the server is stopping")
	}
	old := e.set.Load()
	next, runs, err := e.successor(ctx, c)
	if err != nil {
		return Swap{}, err
	}
	c.generation = old.generation
	c.lift = runs
	if runs {
		c.generation++
	}
	now := time.Now().UTC()
	c.audit.Time, c.audit.Rule = now, c.name
	if c.record != nil {
		c.record.Updated = now
	} else {
		c.unused = e.onlyOf(c.name)
	}
	if err := e.registry.commit(c); err != nil {
		for _, r := range next {
			if !slices.Contains(old.rules, r) {
				e.takeBack(r)
			}
		}
		return Swap{}, err
	}
	delete(e.broken, c.name)
	if c.record == nil {
		delete(e.rules, c.name)
		defer e.dropStates(c.name)
		defer e.dropStandby(c.name)
		defer e.keepStats(c.name, nil, nil) // once no worker counts any more
	} else {
		e.rules[c.name] = c.record
		r := ruleIn(next, c.name)
		if r != nil {
			e.keepStates(c.name, r.states)
		}
		e.keepStats(c.name, c.record, r)
	}
	if !runs {
		l := e.bus.Ledger()
		return Swap{Generation: old.generation, Lost: l.Difference(), Running: c.record.running()}, nil
	}
	swap := e.publish(next)
	swap.Running = c.record.running()
	return swap, nil
}

// ruleIn returns the rule of that name, or nil.
func ruleIn(rules []*activeRule, name RuleName) *activeRule {
	for _, r := range rules {
		if r.name == name {
			return r
		}
	}
	return nil
}

// successor returns the rules of the next set, the changed one made ready, and whether they differ
// from those that run now.
func (e *Engine) successor(ctx context.Context, c *change) ([]*activeRule, bool, error) {
	current := e.set.Load().rules
	at := slices.IndexFunc(current, func(r *activeRule) bool { return r.name == c.name })
	rec, was := c.record, e.rules[c.name]
	if rec == nil || !rec.Enabled || rec.Active == 0 {
		if rec != nil {
			if err := rec.Config.check(&e.limits); err != nil {
				return nil, false, err
			}
		}
		if at < 0 {
			return current, false, nil
		}
		return slices.Delete(slices.Clone(current), at, at+1), true, nil
	}
	if err := rec.Config.check(&e.limits); err != nil {
		return nil, false, err
	}
	if at >= 0 && was.Active == rec.Active && was.Config.equal(&rec.Config) {
		return current, false, nil
	}
	r, err := e.load(ctx, c.name, rec)
	if err != nil {
		return nil, false, err
	}
	next := slices.Clone(current)
	if at >= 0 {
		next[at] = r
		return next, true, nil
	}
	at, _ = slices.BinarySearchFunc(next, r, func(a, b *activeRule) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	})
	return slices.Insert(next, at, r), true, nil
}

func (c *RuleConfig) equal(d *RuleConfig) bool {
	return c.Fuel == d.Fuel && c.OnFailure == d.OnFailure && c.FailCode == d.FailCode &&
		string(c.FailPayload) == string(d.FailPayload) &&
		maps.EqualFunc(c.Params, d.Params, func(a, b json.RawMessage) bool { return string(a) == string(b) })
}

// onlyOf lists the modules that no rule but this one has.
func (e *Engine) onlyOf(name RuleName) []string {
	var list []string
	for _, v := range e.rules[name].Versions {
		shared := false
		for other, rec := range e.rules {
			shared = shared || other != name && rec.bySHA(v.SHA256) != nil
		}
		if !shared {
			list = append(list, v.SHA256)
		}
	}
	return list
}

// Rules lists all rules by name.
func (e *Engine) Rules() []Rule {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []Rule{}
	for _, name := range slices.Sorted(maps.Keys(e.rules)) {
		list = append(list, e.describe(name))
	}
	return list
}

// Rule describes one rule. It is a NotFound error if there is none of this name.
func (e *Engine) Rule(name RuleName) (Rule, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rules[name] == nil {
		return Rule{}, noRule(name)
	}
	return e.describe(name), nil
}

func (e *Engine) describe(name RuleName) Rule {
	rec := e.rules[name]
	r := Rule{
		Name: name, Active: rec.Active, Previous: rec.Previous, Enabled: rec.Enabled,
		Versions: len(rec.Versions), Updated: rec.Updated, Config: rec.Config, Error: e.broken[name],
	}
	if v := rec.version(rec.Active); v != nil {
		m := v.Manifest
		r.Manifest = &m
	}
	set := e.set.Load()
	if i, ok := set.byName[string(name)]; ok {
		r.Quarantine = set.rules[i].breaker.view()
		r.State = stateStats(set.rules[i].states)
	}
	return r
}

// Versions lists a rule's versions, the oldest first.
func (e *Engine) Versions(name RuleName) ([]Version, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rec := e.rules[name]
	if rec == nil {
		return nil, noRule(name)
	}
	list := make([]Version, len(rec.Versions))
	for i, v := range rec.Versions {
		list[i] = Version{Number: v.Number, SHA256: v.SHA256, Bytes: v.Bytes, Uploaded: v.Uploaded,
			By: v.By, Manifest: v.Manifest, Active: v.Number == rec.Active, Config: rec.configOf(&v)}
	}
	return list, nil
}

// Module returns the bytes of a version as they were uploaded; 0 means the active one.
func (e *Engine) Module(name RuleName, n VersionNumber) ([]byte, error) {
	leave, err := e.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	v, _, err := e.version(name, n)
	if err != nil {
		return nil, err
	}
	return e.moduleOf(name, v)
}

// version returns a version (0: the active one), and the configuration that it has or would take over.
func (e *Engine) version(name RuleName, n VersionNumber) (versionRecord, RuleConfig, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return versionRecord{}, RuleConfig{}, errorf(ShuttingDown, "the server is stopping")
	}
	rec := e.rules[name]
	if rec == nil {
		return versionRecord{}, RuleConfig{}, noRule(name)
	}
	if n == 0 {
		n = rec.Active
	}
	v := rec.version(n)
	if v == nil {
		return versionRecord{}, RuleConfig{}, &Error{Kind: NotFound,
			Msg: fmt.Sprintf("rule %q has no version %d", name, n)}
	}
	if c := rec.configOf(v); c != nil {
		return *v, *c, nil
	}
	return *v, rec.Config, nil
}

// Audit lists the last changes, the newest first, of one rule or, if name is empty, of all; at most
// limit.
func (e *Engine) Audit(name RuleName, limit int) ([]Audit, error) {
	leave, err := e.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return e.registry.audit(name, limit)
}
