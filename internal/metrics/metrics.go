// Package metrics turns the parts' own counters into Prometheus metrics. Nothing is counted here:
// each scrape reads the Stats of the parts, so the hot path pays nothing and a metric can never say
// something else than the ledger does.
//
//	h := metrics.Handler(metrics.Sources{Ledger: b.Ledger, Engine: e.Stats, Rings: b.Stats, ...})
//	mux.Handle("GET /metrics", h)
//
// We carry client_golang because it knows the exposition formats and what scrapers negotiate.
// Labels are rule names, sink names, reasons and sources: never anything that came in an event.
// Handler may be used by any number of goroutines.
package metrics

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wasmeval/bus"
	"wasmeval/runtime"
)

// Sink is what a sink says of itself, in verdicts.
type Sink struct {
	Name, Type                             string
	Delivered, DeadLettered, Failed, Retry uint64
	Dropped                                map[string]uint64 // by reason
	QueuedBytes                            int
}

// Tail is what the tail says of itself.
type Tail struct {
	Listeners     int
	Sent, Dropped uint64 // verdicts, for each listener
}

// UDP is what the UDP readers say of themselves.
type UDP struct {
	Datagrams, Bytes   uint64
	ReceiveBufferBytes int // what the kernel granted, for each socket
}

// Sources are the functions that a scrape reads. All must be set, and be callable from any
// goroutine.
type Sources struct {
	Version string
	Ledger  func() bus.Ledger
	Rings   func() []bus.RingStats
	Engine  func() runtime.Stats
	Sinks   func() []Sink
	Tail    func() Tail
	UDP     func() UDP
}

// Handler serves the metrics of s, of the Go runtime and of the process.
func Handler(s Sources) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{s: s}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("wasmeval_"+name, help, labels, nil)
}

var (
	buildInfo = desc("build_info", "1, with the version.", "version")

	received   = desc("events_received_total", "Events that came in.", "source")
	evaluated  = desc("events_evaluated_total", "Events that the workers finished.")
	rejected   = desc("events_rejected_total", "Events refused for what they are.", "source", "reason")
	dropped    = desc("events_dropped_total", "Good events that were not taken.", "source", "reason")
	inFlight   = desc("events_in_flight", "Events taken and not finished yet.")
	difference = desc("ledger_difference",
		"Received - evaluated - rejected - dropped - in flight: 0, or events were lost.")
	unwanted = desc("events_unwanted_total", "Evaluated events that no rule matched.")

	ringBytes  = desc("ring_bytes", "Size of a shard's ring.", "shard")
	ringUsed   = desc("ring_used_bytes", "Claimed bytes of a shard's ring.", "shard")
	ringParked = desc("ring_parked_total", "Times that a shard's worker parked.", "shard")

	batches  = desc("batches_total", "Batches that workers took.")
	queued   = desc("queue_seconds", "From an event's arrival until a worker took it.")
	slice    = desc("guest_slice_seconds", "Slices of guests: for so long a worker cannot be interrupted.")
	sliceMax = desc("guest_slice_max_seconds", "The longest slice since the start.")

	made = desc("worker_instances_total", "Instances that workers made while events waited.")

	generation = desc("generation", "Number of the active rule set.")
	swaps      = desc("swaps_total", "Rule sets published.")
	swapTook   = desc("swap_seconds", "From a rule set's publication until the old one was gone.")
	programs   = desc("programs", "Modules that are compiled and loaded.")
	compiles   = desc("compiles_total", "Modules that were to be compiled, by how it ended.", "result")
	compTook   = desc("compile_seconds", "Run time of compiling a module that was not in the cache.")
	evicted    = desc("compile_cache_evicted_total", "Compiled modules removed to make room for others.")
	replyMiss  = desc("reply_misses_total", "Events whose request no longer waited for the verdicts.")

	unsaid = desc("log_lines_dropped_total", "Lines not logged, since the log did not keep up.")

	ruleVersion = desc("rule_version", "Active version of a rule; 0 for none.", "rule")
	evaluations = desc("rule_evaluations_total", "Evaluations of one event by one rule.",
		"rule", "outcome")
	failures  = desc("rule_failures_total", "Failed evaluations by the kind of error.", "rule", "kind")
	ruleFuel  = desc("rule_fuel_total", "Fuel used.", "rule")
	ruleCalls = desc("rule_calls_total", "Guest calls, each for a batch of events.", "rule")
	ruleTook  = desc("rule_seconds", "Run time of an evaluation: its share of the guest call.", "rule")
	wrongType = desc("rule_wrong_type_total", "Values that were not of their column's type.", "rule")
	oversize  = desc("rule_payloads_refused_total", "Payloads refused for their size.", "rule")
	replaced  = desc("rule_instances_replaced_total", "Instances replaced after a failure.", "rule")
	held      = desc("rule_quarantined", "1 while a rule is not called since it failed too often.", "rule")
	holds     = desc("rule_quarantines_total", "Quarantines that began.", "rule")
	logCut    = desc("rule_log_lines_cut_total", "Lines that were too long.", "rule")
	logLost   = desc("rule_log_lines_lost_total", "Lines that a follower was too slow for.", "rule")
	logLines  = desc("rule_log_lines_total", "Lines that a rule logged.", "rule", "kept")
	ungrown   = desc("rule_memory_refused_total", "Times that memory did not grow, for its limit.", "rule")
	unkeyed   = desc("rule_state_unkeyed_total", "State asked for by events that have no key.", "rule")
	keys      = desc("rule_state_keys", "Keys that a state of a rule holds.", "rule", "state")
	keyBytes  = desc("rule_state_bytes", "Memory reserved for a state of a rule.", "rule", "state")
	forgotten = desc("rule_state_evicted_total", "Keys that made room for others.", "rule", "state")
	late      = desc("rule_state_late_total", "Events older than the window of a state.", "rule", "state")

	delivered    = desc("sink_delivered_total", "Verdicts delivered.", "sink", "type")
	sinkDropped  = desc("sink_dropped_total", "Verdicts dropped.", "sink", "type", "reason")
	deadLettered = desc("sink_dead_lettered_total", "Verdicts in the dead-letter file.", "sink", "type")
	sinkFailed   = desc("sink_failed_attempts_total", "Deliveries tried in vain.", "sink", "type")
	sinkRetries  = desc("sink_retries_total", "Deliveries tried again.", "sink", "type")
	sinkQueued   = desc("sink_queued_bytes", "Bytes that wait in a sink's queue.", "sink", "type")

	listeners   = desc("tail_listeners", "Requests that listen to the tail.")
	tailSent    = desc("tail_sent_total", "Verdicts sent to listeners of the tail.")
	tailDropped = desc("tail_dropped_total", "Verdicts dropped for listeners that were too slow.")

	datagrams  = desc("udp_datagrams_total", "Datagrams received.")
	udpBytes   = desc("udp_received_bytes_total", "Bytes received by UDP.")
	udpGranted = desc("udp_receive_buffer_bytes", "Receive buffer that the kernel granted a socket.")
)

type collector struct{ s Sources }

// Describe sends nothing: which rules and sinks there are is known only at a scrape.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads all sources once.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter(ch)
	e.gauge(buildInfo, 1, c.s.Version)
	l := c.s.Ledger()
	e.ledger(&l)
	for i, r := range c.s.Rings() {
		shard := strconv.Itoa(i)
		e.gauge(ringBytes, float64(r.SizeBytes), shard)
		e.gauge(ringUsed, float64(r.UsedBytes), shard)
		e.count(ringParked, r.Parked, shard)
	}
	s := c.s.Engine()
	e.engine(&s)
	for i := range s.Rules {
		e.rule(&s.Rules[i])
	}
	for _, s := range c.s.Sinks() {
		e.sink(&s)
	}
	t := c.s.Tail()
	e.gauge(listeners, float64(t.Listeners))
	e.count(tailSent, t.Sent)
	e.count(tailDropped, t.Dropped)
	u := c.s.UDP()
	e.count(datagrams, u.Datagrams)
	e.count(udpBytes, u.Bytes)
	e.gauge(udpGranted, float64(u.ReceiveBufferBytes))
}

type emitter chan<- prometheus.Metric

func (e emitter) count(d *prometheus.Desc, n uint64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (e emitter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (e emitter) histogram(d *prometheus.Desc, h runtime.HistogramStats, labels ...string) {
	buckets, total := map[float64]uint64{}, uint64(0)
	for i, b := range runtime.Bounds() {
		total += h.Counts[i]
		buckets[b.Seconds()] = total
	}
	total += h.Counts[len(h.Counts)-1]
	e <- prometheus.MustNewConstHistogram(d, total, h.Sum.Seconds(), buckets, labels...)
}

func (e emitter) ledger(l *bus.Ledger) {
	for src := range bus.Sources {
		s := &l.Sources[src]
		e.count(received, s.Received, src.String())
		for r := range bus.Reasons {
			d := rejected
			if r.Dropped() {
				d = dropped
			}
			e.count(d, s.Lost[r], src.String(), r.String())
		}
	}
	e.count(evaluated, l.Evaluated)
	e.gauge(inFlight, float64(l.InFlight()))
	e.gauge(difference, float64(l.Difference()))
}

func (e emitter) engine(s *runtime.Stats) {
	e.count(unwanted, s.Unwanted)
	e.count(batches, s.Batches)
	e.histogram(queued, s.Queued)
	e.histogram(slice, s.Slices)
	e.gauge(sliceMax, s.SliceMax.Seconds())
	e.count(made, s.Made)
	e.gauge(generation, float64(s.Generation))
	e.count(swaps, s.Swaps)
	e.histogram(swapTook, s.SwapTook)
	e.gauge(programs, float64(s.Programs))
	for r := range runtime.CompileResults {
		e.count(compiles, s.Compiles[r], r.String())
	}
	e.histogram(compTook, s.CompileTook)
	e.count(evicted, s.CacheEvicted)
	e.count(replyMiss, s.ReplyMiss)
	e.count(unsaid, s.Unsaid)
}

func (e emitter) rule(r *runtime.RuleStats) {
	name := string(r.Name)
	e.gauge(ruleVersion, float64(r.Version), name)
	for o := range runtime.Outcomes {
		e.count(evaluations, r.Outcomes[o], name, o.String())
	}
	for kind, n := range r.Faults {
		e.count(failures, n, name, kind)
	}
	e.count(ruleFuel, r.Fuel, name)
	e.count(ruleCalls, r.Calls, name)
	e.histogram(ruleTook, r.Took, name)
	e.count(wrongType, r.WrongType, name)
	e.count(oversize, r.Oversize, name)
	e.count(replaced, r.Replaced, name)
	quarantined := 0.0
	if r.Quarantined {
		quarantined = 1
	}
	e.gauge(held, quarantined, name)
	e.count(holds, r.Quarantines, name)
	e.count(logCut, r.Cut, name)
	e.count(logLost, r.LogLost, name)
	e.count(logLines, r.Logged, name, "true")
	e.count(logLines, r.Unlogged, name, "false")
	e.count(ungrown, r.Ungrown, name)
	e.count(unkeyed, r.Unkeyed, name)
	for _, s := range r.State {
		e.gauge(keys, float64(s.Held), name, s.Name)
		e.gauge(keyBytes, float64(s.Size), name, s.Name)
		e.count(forgotten, s.Evicted, name, s.Name)
		e.count(late, s.Late, name, s.Name)
	}
}

func (e emitter) sink(s *Sink) {
	e.count(delivered, s.Delivered, s.Name, s.Type)
	for reason, n := range s.Dropped {
		e.count(sinkDropped, n, s.Name, s.Type, reason)
	}
	e.count(deadLettered, s.DeadLettered, s.Name, s.Type)
	e.count(sinkFailed, s.Failed, s.Name, s.Type)
	e.count(sinkRetries, s.Retry, s.Name, s.Type)
	e.gauge(sinkQueued, float64(s.QueuedBytes), s.Name, s.Type)
}
