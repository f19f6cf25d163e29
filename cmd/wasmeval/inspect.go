package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/runtime"
)

func newInspect() *cobra.Command {
	var events, format string
	var params []string
	cmd := &cobra.Command{
		Use:   "inspect MODULE",
		Short: "Show what a module is, and what the server would say of it",
		Long: `Shows a module's parts, checks it as an upload does, and shows its manifest, what an instance
takes, and how far it is from the limits. With --events it evaluates them one by one and tells the
fuel that they take. Exit code 1 if the server would refuse the module.`,
		Example: `  wasmeval inspect limit.wasm
  wasmeval inspect limit.wasm --events events.ndjson --param limit=50 --format json`,
		Args: cobra.ExactArgs(1),
	}
	configured := addOfflineFlags(cmd)
	cmd.Flags().StringVar(&events, "events", "", "file with events to estimate the fuel on; -: stdin")
	cmd.Flags().StringArrayVar(&params, "param", nil, "parameter as name=value, any number of times")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.RunE = interruptible(func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(format, "text", "json"); err != nil {
			return err
		}
		c, err := offlineConfig(configured)
		if err != nil {
			return err
		}
		rule := []replayRule{{name: "rule", file: args[0]}}
		if err := setParams(rule, params); err != nil {
			return err
		}
		var lines []eventLine
		if events != "" {
			if _, lines, err = readEvents(c, events, cmd.InOrStdin(), maxBenchEvents); err != nil {
				return err
			}
		}
		m, err := inspect(cmd.Context(), c, &rule[0], lines)
		if err != nil {
			return err
		}
		if err := m.write(cmd.OutOrStdout(), format); err != nil {
			return err
		}
		if m.Refused != "" {
			return fmt.Errorf("the server would refuse %q", args[0])
		}
		return nil
	})
	return cmd
}

// inspection is what there is to say of a module.
type inspection struct {
	Module   string            `json:"module"`
	Bytes    int               `json:"bytes"`
	SHA256   string            `json:"sha256"`
	Refused  string            `json:"refused,omitempty"` // why; empty: the server takes it
	Manifest *runtime.Manifest `json:"manifest,omitempty"`
	moduleParts
	Limits      []headroom  `json:"limits"`
	Pages       int         `json:"memory_pages,omitempty"` // of an instance that is ready
	Instantiate int64       `json:"instantiate_ns,omitempty"`
	Reset       int64       `json:"reset_ns,omitempty"`
	Fuel        *fuelFigure `json:"fuel,omitempty"`
}

// headroom is what a module uses of a limit.
type headroom struct {
	Name  string `json:"name"`
	Used  int    `json:"used"`
	Limit int    `json:"limit"`
}

func inspect(ctx context.Context, c *Config, rule *replayRule, lines []eventLine) (m *inspection,
	err error) {
	code, err := moduleFile(rule.file)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(code)
	m = &inspection{Module: rule.file, Bytes: len(code), SHA256: hex.EncodeToString(sum[:])}
	if !bytes.HasPrefix(code, []byte("\x00asm")) {
		return nil, fmt.Errorf("%q is no WebAssembly module", rule.file)
	}
	// What cannot be read is for the server's own check to tell.
	m.moduleParts, _ = readModuleParts(code)
	engine, err := openOffline(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	m.limits(c)
	manifest, err := engine.Validate(ctx, code)
	var refused *runtime.Error
	if errors.As(err, &refused) && refused.Kind == runtime.BadModule {
		m.Refused = oneLine(err.Error())
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	m.Manifest = &manifest
	costs, err := engine.Costs(ctx, code, rule.config)
	if err != nil {
		m.Refused = oneLine(err.Error())
		return m, nil
	}
	m.Pages, m.Instantiate, m.Reset = costs.Pages, costs.Instantiate.Nanoseconds(),
		costs.Reset.Nanoseconds()
	m.Limits = append(m.Limits, headroom{"memory pages", m.Pages, c.Rules.MemoryPages})
	if lines == nil {
		return m, nil
	}
	fuel, _, err := measureFuel(ctx, engine, code, rule.config, lines)
	m.Fuel = &fuel
	m.Limits = append(m.Limits, headroom{"fuel for an event", int(fuel.Max), int(c.Rules.EventFuel)})
	return m, err
}

// limits tells how far the module is from those limits that rules come near to.
func (m *inspection) limits(c *Config) {
	l := c.limits().Module
	m.Limits = []headroom{{"module bytes", m.Bytes, l.ModuleBytes},
		{"functions", m.Functions + len(m.Imports), l.Functions}, {"imports", len(m.Imports), l.Imports},
		{"exports", len(m.Exports), l.Exports}, {"globals", m.Globals, l.Globals},
		{"largest function's bytes", m.LargestBody, l.BodyBytes}}
}

func (m *inspection) write(out io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(m)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "module\t%s\nbytes\t%d\nsha256\t%s\nfunctions\t%d, the largest has %d bytes\n",
		m.Module, m.Bytes, m.SHA256, m.Functions, m.LargestBody)
	m.writeParts(w)
	for _, l := range m.Limits {
		fmt.Fprintf(w, "limit\t%s: %d of %d, %.1f %%\n", l.Name, l.Used, l.Limit,
			100*float64(l.Used)/float64(max(l.Limit, 1)))
	}
	if m.Pages > 0 {
		fmt.Fprintf(w, "instance\t%d pages of 64 KiB, made in %v, reset in %s\n", m.Pages,
			time.Duration(m.Instantiate), durationOr(m.Reset, "no time: it is made anew"))
	}
	if f := m.Fuel; f != nil {
		fmt.Fprintf(w, "fuel\tp50 %d, p99 %d, max %d for an event; called for %d, failed for %d\n",
			f.P50, f.P99, f.Max, f.Events, f.Failed)
	}
	if m.Manifest != nil {
		writeManifest(w, m.Manifest)
	}
	if m.Refused == "" {
		fmt.Fprintln(w, "server\twould take it")
	} else {
		fmt.Fprintf(w, "server\twould refuse it: %s\n", m.Refused)
	}
	return w.Flush()
}

func (m *moduleParts) writeParts(w io.Writer) {
	for _, s := range m.Sections {
		fmt.Fprintf(w, "section\t%s: %d bytes\n", oneLine(s.Name), s.Bytes)
	}
	if m.MemoryMin != nil {
		most := "no maximum"
		if m.MemoryMax != nil {
			most = fmt.Sprintf("at most %d", *m.MemoryMax)
		}
		fmt.Fprintf(w, "memory\t%d pages at first, %s\n", *m.MemoryMin, most)
	}
	for _, i := range m.Imports {
		fmt.Fprintf(w, "import\t%s\n", oneLine(i))
	}
	for _, e := range m.Exports {
		fmt.Fprintf(w, "export\t%s\n", oneLine(e))
	}
}

// writeManifest writes what a module says of itself, for a tabwriter.
func writeManifest(w io.Writer, m *runtime.Manifest) {
	fmt.Fprintf(w, "description\t%s\nmatch\t%s\n", orDash(oneLine(m.Description)),
		oneLine(strings.Join(m.Match, ", ")))
	for _, line := range manifestLines(m) {
		kind, rest, _ := strings.Cut(line, " ")
		fmt.Fprintf(w, "%s\t%s\n", kind, rest)
	}
}

// manifestLines has a line for each thing that a manifest declares.
func manifestLines(m *runtime.Manifest) (lines []string) {
	for _, f := range m.Fields {
		lines = append(lines, oneLine("field "+f.Path+" "+f.Type))
	}
	for _, p := range m.Params {
		line := "param " + p.Name + " " + p.Type
		if p.Default == nil {
			line += ", must be given"
		} else {
			line += " = " + string(p.Default)
		}
		if p.Description != "" {
			line += ": " + p.Description
		}
		lines = append(lines, oneLine(line))
	}
	for _, s := range m.State {
		text, _ := json.Marshal(s) // it came as JSON
		lines = append(lines, oneLine("state "+string(text)))
	}
	return lines
}

// moduleParts is what a module's sections hold. The server's own check decides; this only shows.
type moduleParts struct {
	Sections    []sectionSize `json:"sections"`
	Functions   int           `json:"functions"` // its own
	LargestBody int           `json:"largest_function_bytes"`
	Globals     int           `json:"globals"`
	MemoryMin   *uint32       `json:"memory_min_pages,omitempty"`
	MemoryMax   *uint32       `json:"memory_max_pages,omitempty"`
	Imports     []string      `json:"imports"`
	Exports     []string      `json:"exports"`
}

type sectionSize struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

var sectionNames = []string{"custom", "type", "import", "function", "table", "memory", "global",
	"export", "start", "element", "code", "data", "data count", "tag"}

var externNames = []string{"function", "table", "memory", "global", "tag"}

var errModuleEnds = errors.New("the module ends too early")

// partReader reads the binary format of modules.
type partReader struct{ rest []byte }

func (r *partReader) u32() uint32 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		panic(errModuleEnds)
	}
	r.rest = r.rest[n:]
	return uint32(v)
}

func (r *partReader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.rest)) {
		panic(errModuleEnds)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *partReader) name() string { return string(r.bytes(r.u32())) }

// limits reads the limits of a table or memory.
func (r *partReader) limits() (least uint32, most *uint32) {
	flags := r.u32()
	least = r.u32()
	if flags&1 != 0 {
		most = new(r.u32())
	}
	return least, most
}

// readModuleParts reads as far as it can.
func readModuleParts(code []byte) (m moduleParts, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p != any(errModuleEnds) {
				panic(p)
			}
			err = errModuleEnds
		}
	}()
	r := &partReader{code}
	r.bytes(8)
	for len(r.rest) > 0 {
		id := int(r.bytes(1)[0])
		body := &partReader{r.bytes(r.u32())}
		name, size := fmt.Sprintf("section %d", id), len(body.rest)
		if id < len(sectionNames) {
			name = sectionNames[id]
		}
		if id == 0 {
			name += " " + body.name()
		}
		m.Sections = append(m.Sections, sectionSize{name, size})
		m.section(id, body)
	}
	return m, nil
}

func (m *moduleParts) section(id int, r *partReader) {
	switch id {
	case 2:
		for range r.u32() {
			m.Imports = append(m.Imports, r.name()+"."+r.name()+" "+r.importType())
		}
	case 5:
		if r.u32() > 0 {
			least, most := r.limits()
			m.MemoryMin, m.MemoryMax = &least, most
		}
	case 6:
		m.Globals = int(r.u32())
	case 7:
		for range r.u32() {
			name := r.name()
			kind := r.bytes(1)[0]
			r.u32()
			m.Exports = append(m.Exports, name+" "+externName(kind))
		}
	case 10:
		m.Functions = int(r.u32())
		for range m.Functions {
			n := r.u32()
			r.bytes(n)
			m.LargestBody = max(m.LargestBody, int(n))
		}
	}
}

func (r *partReader) importType() string {
	kind := r.bytes(1)[0]
	switch kind {
	case 0:
		r.u32()
	case 1:
		r.bytes(1)
		r.limits()
	case 2:
		r.limits()
	case 3:
		r.bytes(2)
	case 4:
		r.bytes(1)
		r.u32()
	}
	return externName(kind)
}

func externName(kind byte) string {
	if int(kind) < len(externNames) {
		return externNames[kind]
	}
	return fmt.Sprintf("kind %d", kind)
}
