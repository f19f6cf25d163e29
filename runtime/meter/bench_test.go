package meter

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// form is one way to run a guest. It has several instances, since where their memories are is of
// influence, too.
type form struct {
	name      string
	instances []*guest
}

func newForm(b *testing.B, ctx context.Context, name string, config wazero.RuntimeConfig, code []byte) form {
	r := newRuntime(b, config)
	c, err := r.CompileModule(ctx, code)
	if err != nil {
		b.Fatal(err)
	}
	f := form{name: name}
	for range 3 {
		f.instances = append(f.instances, newGuest(b, ctx, r, c))
	}
	return f
}

// compared times a body in several forms in turn, so that what else the machine does falls on all
// of them alike, and returns the least time that each took for a call.
func compared(b *testing.B, forms []form, body body0, rounds int, long time.Duration) []float64 {
	timed := func(call func() (uint64, error), n int) time.Duration {
		begun := time.Now()
		for range n {
			if _, err := call(); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(begun)
	}
	least := slices.Repeat([]float64{math.Inf(1)}, len(forms))
	for round := range rounds {
		for k := range forms {
			i := (round + k) % len(forms)
			g := forms[i].instances[round%len(forms[i].instances)]
			if g.fuel != nil {
				g.fuel.Set(budget)
			}
			call := g.caller(body)
			n := int(long/(timed(call, 4)/4+1)) + 1
			least[i] = min(least[i], float64(timed(call, n))/float64(n))
		}
	}
	return least
}

// fuelOf is what a call of a body takes, and how many instructions it runs.
func fuelOf(b *testing.B, code []byte, body body0) (fuel, executed float64) {
	config := wazero.NewRuntimeConfigInterpreter()
	exact := newForm(b, context.Background(), "", config, counted(code)).instances[0]
	metered := newForm(b, context.Background(), "", config, metered(b, code)).instances[0]
	count := exact.mod.ExportedGlobal(countExport).(api.MutableGlobal)
	count.Set(0)
	metered.fuel.Set(budget)
	for _, g := range []*guest{exact, metered} {
		if _, err := g.caller(body)(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(budget - int64(metered.fuel.Get())), float64(count.Get())
}

// BenchmarkOverhead prints what metering costs each body, what wazero's own time limit would cost,
// and how many units of fuel are charged for an instruction that runs.
func BenchmarkOverhead(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "guest\tbody\tunmetered ns\tmetered ns\ttime limit ns\tmetered\ttime limit\tfuel/instruction\t")
	logs, worst, n := 0.0, 0.0, 0
	all := guests(b)
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		code, config := all[name], wazero.NewRuntimeConfigCompiler()
		forms := []form{
			newForm(b, context.Background(), "unmetered", config, code),
			newForm(b, context.Background(), "metered", config, metered(b, code)),
			newForm(b, ctx, "time limit", config.WithCloseOnContextDone(true), code),
		}
		rounds, long := 150, 300*time.Microsecond
		if name == "gojson" {
			rounds, long = 30, 10*time.Millisecond // with its garbage collections
		}
		for _, body := range bodies[name] {
			ns := compared(b, forms, body, rounds, long)
			fuel, executed := fuelOf(b, code, body)
			ratio := ns[1] / ns[0]
			logs, worst, n = logs+math.Log(ratio), max(worst, ratio), n+1
			fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.1f\t%.1f\t\n", name, body.name, ns[0], ns[1], ns[2],
				ratio, ns[2]/ns[0], fuel/executed)
		}
	}
	_ = w.Flush()
	b.ReportMetric(math.Exp(logs/float64(n)), "mean-ratio")
	b.ReportMetric(worst, "worst-ratio")
	b.ReportMetric(0, "ns/op")
}
