package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"parley/cmd/parley/internal/load"
)

// benchReport is what bench prints as JSON. Latencies are in milliseconds.
type benchReport struct {
	Server      string         `json:"server"`
	Own         bool           `json:"own"` // a process of bench's own
	Plan        benchPlan      `json:"plan"`
	Interrupted bool           `json:"interrupted"`
	Picks       benchPicks     `json:"picks"`
	PerSecond   float64        `json:"perSecond"` // acknowledged
	Latency     benchLatencies `json:"latency"`
	Connections benchLinks     `json:"connections"`
	Refusals    []load.Refusal `json:"refusals"`
	Troubles    []load.Trouble `json:"troubles"` // connections lost or not made
	Verdict     load.Verdict   `json:"verdict"`
	Process     *benchProcess  `json:"process,omitempty"` // the server's, if it is bench's own
	PersonBytes int64          `json:"personBytes"`       // what one of the people takes in this process
	Find        *benchFind     `json:"find,omitempty"`
	Timeline    []load.Point   `json:"timeline"`

	// Acknowledged counts all, those of warming up too: what is looked for in the end.
	Acknowledged int64 `json:"acknowledged"`
}

type benchPlan struct {
	Transactions  int     `json:"transactions"`
	People        int     `json:"people"`
	Picks         float64 `json:"picks"`
	Fields        int     `json:"fields"`
	Flap          float64 `json:"flap"`
	Cold          float64 `json:"cold"`
	PerSecond     float64 `json:"perSecond"`
	WarmupSeconds float64 `json:"warmupSeconds"`
	Seconds       float64 `json:"seconds"`
}

type benchPicks struct {
	load.Counts
	// Unacknowledged are those that the server was not heard of in the end, those
	// of warming up among them.
	Unacknowledged int64 `json:"unacknowledged"`
	// ToSee is how often picks were to arrive at other people.
	ToSee int64 `json:"toSee"`
}

type benchLatencies struct {
	Acknowledged load.Latency `json:"acknowledged"`
	Seen         load.Latency `json:"seen"`
	Cold         load.Latency `json:"cold"`
	Behind       load.Latency `json:"behind"`
}

type benchLinks struct {
	Cut        int64 `json:"cut"`
	Reconnects int64 `json:"reconnects"`
	Lost       int64 `json:"lost"` // not cut by us, or not made
}

type benchProcess struct {
	CPUSeconds    float64 `json:"cpuSeconds"`
	CPUPerPickMS  float64 `json:"cpuPerPickMs"`
	CPUShare      float64 `json:"cpuShare"` // of a core
	RSSBytes      int64   `json:"rssBytes"`
	PeakRSSBytes  int64   `json:"peakRssBytes"`
	SecondsOfThat float64 `json:"seconds"`
}

type benchFind struct {
	UnderMS   float64     `json:"underMs"`
	Best      float64     `json:"best"` // picks per second; 0: no load holds
	Picks     float64     `json:"picks"`
	Generator bool        `json:"generator"` // what did not hold is this process
	Steps     []load.Step `json:"steps"`
}

// measured takes over what a window has.
func (r *benchReport) measured(w *load.Window, u load.Usage, people int) {
	r.Picks.Counts, r.Timeline = w.Result()
	r.Picks.ToSee = r.Picks.Acknowledged * int64(people-1)
	r.Latency = benchLatencies{
		Acknowledged: w.Latency(load.Acknowledged), Seen: w.Latency(load.Seen),
		Cold: w.Latency(load.Cold), Behind: w.Latency(load.Behind),
	}
	if n := len(r.Timeline); n > 0 {
		var picks, seconds float64
		for i, at := range r.Timeline {
			took := at.At
			if i > 0 {
				took -= r.Timeline[i-1].At
			}
			picks, seconds = picks+at.Acknowledged*took, seconds+took
		}
		r.PerSecond = picks / seconds
	}
	if u.Known && u.Over > 0 {
		r.Process = &benchProcess{
			CPUSeconds: u.CPU.Seconds(), CPUShare: u.CPU.Seconds() / u.Over.Seconds(), RSSBytes: u.RSS, PeakRSSBytes: u.PeakRSS,
			SecondsOfThat: u.Over.Seconds(),
		}
		if picks := r.PerSecond * u.Over.Seconds(); picks >= 1 {
			r.Process.CPUPerPickMS = 1000 * u.CPU.Seconds() / picks
		}
	}
}

// found takes over how the search ended.
func (r *benchReport) found(best float64) {
	for _, s := range r.Find.Steps {
		if s.Holds && s.Picks == best {
			r.Find.Best, r.Find.Picks = s.PerSecond, s.Picks
			r.Picks.Counts, r.PerSecond = s.Counts, s.PerSecond
			r.Picks.ToSee = s.Counts.Acknowledged * int64(r.Plan.People-1)
			r.Latency.Acknowledged, r.Latency.Seen, r.Latency.Behind = s.Acknowledged, s.Seen, s.Behind
		}
	}
	for _, s := range r.Find.Steps {
		if !s.Holds && s.Picks <= best*1.2 {
			r.Find.Generator = r.Find.Generator || s.Generator
		}
	}
}

// note takes over what is of the whole run.
func (r *benchReport) note(c *load.Crowd) {
	s := c.Stands()
	r.Connections = benchLinks{Cut: s.Cuts, Reconnects: s.Reconnects, Lost: s.LostConnections}
	r.Refusals, r.Troubles = c.Refusals(), c.Troubles()
	r.PersonBytes = c.BytesPerPerson
	r.Acknowledged = s.Acknowledged
}

// print prints the report and draws the plot.
func (c *benchCmd) print(io streams, r *benchReport) error {
	if r.Timeline == nil {
		r.Timeline = []load.Point{}
	}
	var err error
	if c.JSON {
		err = printJSON(io.out, r)
	} else {
		err = r.table(io.out)
	}
	if err != nil || c.Plot == "" {
		return err
	}
	if err := drawBench(c.Plot, r); err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	if !c.JSON {
		_, err = fmt.Fprintf(io.out, "%s drawn\n", c.Plot)
	}
	return err
}

// table is the report for people.
func (r *benchReport) table(w io.Writer) error {
	var b strings.Builder
	where := r.Server
	if r.Own {
		where = "a server of its own, a process on this machine"
	}
	fmt.Fprintf(&b, "%s of %s, on %s\n\n", count(r.Plan.Transactions, "transaction", "transactions"), count(r.Plan.People, "person", "people"), where)
	if r.Find != nil {
		r.findTable(&b)
	}
	if r.Picks.Due > 0 {
		r.latencyTable(&b)
		b.WriteString("\n")
	}
	if err := writeTable(&b, r.facts(), 200); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *benchReport) latencyTable(b *strings.Builder) {
	p := r.Picks
	rows := [][]string{{"LATENCY", "P50", "P90", "P99", "MAX", "OF"}}
	add := func(name string, l load.Latency, of string) {
		rows = append(rows, []string{name, ms(l.P50), ms(l.P90), ms(l.P99), ms(l.Max), of})
	}
	add("acknowledged", r.Latency.Acknowledged, fmt.Sprintf("%d of %s", p.Acknowledged, count(int(p.Due), "pick", "picks")))
	if r.Plan.People > 1 {
		add("seen by another", r.Latency.Seen, fmt.Sprintf("%d of %s", p.Seen, count(int(p.ToSee), "arrival", "arrivals")))
	}
	if r.Plan.Cold > 0 && r.Find == nil {
		add("cold join", r.Latency.Cold, fmt.Sprintf("%d of %s", p.ColdJoins, count(int(p.ColdDue), "join", "joins")))
	}
	add("bench itself late", r.Latency.Behind, "")
	_ = writeTable(b, rows, 40) // a builder takes all
}

// facts are the lines below.
func (r *benchReport) facts() [][]string {
	p := r.Picks
	var rows [][]string
	add := func(name, format string, args ...any) {
		rows = append(rows, []string{name, fmt.Sprintf(format, args...)})
	}
	if r.Find == nil {
		add("throughput", "%s picks/s acknowledged, of %s/s that were due", figure(r.PerSecond), figure(r.Plan.PerSecond))
	}
	if p.NotMade > 0 {
		add("not made", "%s: this machine or the server could not keep up", count(int(p.NotMade), "pick", "picks"))
	}
	if p.Unacknowledged > 0 {
		add("waiting", "%s not acknowledged in the end", count(int(p.Unacknowledged), "pick", "picks"))
	}
	if c := r.Connections; c.Cut > 0 || c.Reconnects > 0 || c.Lost > 0 {
		add("connections", "%d cut, %s, %d lost", c.Cut, count(int(c.Reconnects), "reconnect", "reconnects"), c.Lost)
	}
	for _, t := range r.Troubles {
		add("trouble", "%d times: %s", t.Count, plain(t.Text))
	}
	for _, f := range r.Refusals {
		text := fmt.Sprintf("%d times: %s", f.Count, plain(f.Message))
		if f.Code != "" {
			text += " (" + plain(string(f.Code)) + ")"
		}
		if f.Flag != "" {
			text += "; raise it with parley serve " + f.Flag
		}
		add("refused", "%s", text)
	}
	if s := r.Process; s != nil {
		add("server", "%s CPU a pick, %.0f%% of a core, %s (at most %s)", ms(s.CPUPerPickMS), 100*s.CPUShare, mb(s.RSSBytes), mb(s.PeakRSSBytes))
	}
	if r.PersonBytes > 0 {
		add("this process", "%.0f kB a person", float64(r.PersonBytes)/1000)
	}
	switch v := r.Verdict; {
	case v.Lost > 0:
		add("lost", "%d of %d acknowledged", v.Lost, r.Acknowledged)
	case v.Unchecked > 0:
		add("lost", "not known: %d of %d transactions could not be read (%s)", v.Unchecked, v.Checked+v.Unchecked, plain(v.Why))
	default:
		add("lost", "none: fresh clients found all %d that were acknowledged", r.Acknowledged)
	}
	return rows
}

func (r *benchReport) findTable(b *strings.Builder) {
	f := r.Find
	rows := [][]string{{"PICKS/S", "EACH, A MINUTE", "ACKNOWLEDGED P99", "SEEN P99", ""}}
	for _, s := range f.Steps {
		verdict := "holds"
		if !s.Holds {
			verdict = s.Why
		}
		rows = append(rows, []string{figure(s.PerSecond), figure(s.Picks), ms(s.Acknowledged.P99), ms(s.Seen.P99), verdict})
	}
	_ = writeTable(b, rows, 60)
	if f.Best > 0 {
		fmt.Fprintf(b, "\n%s picks/s hold with p99 under %s", figure(f.Best), ms(f.UnderMS))
		if f.Generator {
			b.WriteString(": the limit is of this machine, which could not make more")
		}
		b.WriteString("\n\n")
	} else {
		fmt.Fprintf(b, "\nno load holds with p99 under %s\n\n", ms(f.UnderMS))
	}
}

// stepText says how one step of a search went.
func stepText(s load.Step) string {
	text := fmt.Sprintf("%s picks/s: p99 acknowledged %s, seen %s", figure(s.PerSecond), ms(s.Acknowledged.P99), ms(s.Seen.P99))
	if !s.Holds {
		text += ": too much, " + s.Why
	}
	return text
}

// figure is a number as people read it: three digits, or whole.
func figure(f float64) string {
	if f >= 100 || f == float64(int64(f)) {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'g', 3, 64)
}

func ms(f float64) string {
	switch {
	case f >= 10_000:
		return fmt.Sprintf("%.1f s", f/1000)
	case f >= 100:
		return fmt.Sprintf("%.0f ms", f)
	}
	return fmt.Sprintf("%.1f ms", f)
}

func mb(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }
