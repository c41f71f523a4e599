package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"parley/cmd/parley/internal/load"
	"parley/server/identity"
	"parley/sync/client"
)

// benchCmd measures a server.
type benchCmd struct {
	Server []string `help:"URL of the server to measure; several, if servers share a database: each connection goes to any of them. Default: one of its own, a process of this binary on loopback with a temporary folder." placeholder:"URL"`

	User  string `help:"How people's names begin, to a server that runs with --dev." default:"bench" placeholder:"NAME"`
	Token string `help:"One token, of a host and for all transactions (*), that everybody uses." env:"PARLEY_TOKEN" placeholder:"T"`
	Key   string `help:"Private key (PEM) or secret to make a token for each with, as for parley token." aliases:"keys" type:"path" placeholder:"FILE"`
	issuerFlags

	Transactions int     `help:"How many transactions." default:"10"`
	People       int     `help:"How many people pick in each." default:"4"`
	Picks        float64 `help:"How often each of them picks in a minute; with --find, to begin with." default:"12"`
	Fields       int     `help:"How many fields each transaction has." default:"10"`
	Flap         float64 `help:"How often each person's link is cut in a minute." default:"0" placeholder:"N"`
	Cold         float64 `help:"How many fresh clients join and read everything in a minute, in all." default:"0" placeholder:"N"`

	Warmup   time.Duration `help:"How long people pick before it is measured; with --find, at each load." default:"3s"`
	Duration time.Duration `help:"How long to measure; with --find, at each load. Default 30s, with --find 8s." placeholder:"DURATION"`

	Find  bool          `help:"Look for the highest load whose p99 stays under a bound."`
	Under time.Duration `help:"That bound, for acknowledged and for seen." default:"250ms"`

	JSON bool   `help:"Print JSON."`
	Plot string `help:"Draw latency and throughput over time, with --find latency against load, as SVG." type:"path" placeholder:"FILE"`
}

// Help is shown by kong under the command's one line.
func (*benchCmd) Help() string {
	return `  parley bench
  parley bench --server ws://127.0.0.1:8080 --transactions 100 --people 10 --picks 30
  parley bench --server wss://sync.example.com --key parley.pem --find --under 250ms

People join transactions that it makes, and pick: each pick is due at a time,
whether the server keeps up or not, and its latency counts from there until it is
acknowledged, which is on disk, and until each other person has it. In the end
fresh clients look for every pick that was acknowledged.

The transactions stay on the server: measure one that may keep them. Its quotas
of users and addresses bound what can be measured, unless it runs with --dev;
what says no to a quota names the flag of parley serve that raises it.

Exit codes: 0 measured, and nothing is lost, 10 picks that were acknowledged are
not there, 130 interrupted (what was measured until then is printed, and what was
acknowledged is looked for all the same; a second time ends it at once); and those
of every command.`
}

// Bounds of what may be asked for: beyond them it is a slip of the pen.
const (
	maxBenchPeople = 100_000
	maxBenchFields = 5000 // what a transaction may have
)

// Validate is called by kong after parsing.
func (c *benchCmd) Validate() error {
	if c.Duration == 0 {
		c.Duration = 30 * time.Second
		if c.Find {
			c.Duration = 8 * time.Second
		}
	}
	for _, server := range c.Server {
		if err := validateServer(server); err != nil {
			return err
		}
	}
	switch {
	case c.Key != "" && c.Token != "":
		return errors.New("--key makes tokens and --token is one: leave one of them out")
	case c.Key != "" && len(c.Server) == 0:
		return errors.New("--key is for a server that wants tokens: say which with --server")
	case c.Transactions < 1 || c.People < 1 || c.Transactions > maxBenchPeople/c.People:
		return fmt.Errorf("--transactions and --people: want 1 at least, and %d people in all at most", maxBenchPeople)
	case c.Fields < 1 || c.Fields > maxBenchFields:
		return fmt.Errorf("--fields: want 1 to %d", maxBenchFields)
	case !(c.Picks > 0 && c.Picks <= 60_000):
		return errors.New("--picks: want more than 0, and 60000 (a thousand a second) at most")
	case !(c.Flap >= 0 && c.Flap <= 600) || !(c.Cold >= 0 && c.Cold <= 60_000):
		return errors.New("--flap: want 0 to 600, and --cold 0 to 60000")
	case c.Duration < time.Second || c.Duration > 24*time.Hour || c.Warmup < 0 || c.Warmup > time.Hour:
		return errors.New("--duration: want a second at least and a day at most, and --warmup an hour at most")
	case c.Under <= 0 || c.Under > time.Minute:
		return errors.New("--under: want a minute at most")
	}
	return nil
}

func validateServer(server string) error {
	u, err := url.Parse(server)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" && u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("--server %q: want a URL such as ws://127.0.0.1:8080", server)
	case u.RawQuery != "": // the URL is shown
		return errors.New("--server: leave out what is behind the ?: --token, --key or --user say who people are")
	}
	return nil
}

// exitLost is when the server has lost what it acknowledged.
const exitLost = 10

// verifyWithin bounds the look for what was acknowledged.
const verifyWithin = 5 * time.Minute

func (c *benchCmd) Run(io streams) (err error) {
	measuring, hard, end := interruptions()
	defer end()
	show := newTeller(io.err)
	if len(c.Server) == 0 {
		show.line("starting a server")
	}
	target, r, stop, err := c.target(hard)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	crowd, err := load.Open(measuring, target, load.Plan{
		Transactions: c.Transactions, People: c.People, Fields: c.Fields,
	}, func(s load.Stands) { show.line("joining  %d of %d people", s.Here, s.People) })
	if err != nil {
		show.clear()
		return c.failed(measuring, target, err)
	}
	pace := load.Pace{Picks: c.Picks, Flap: c.Flap, Cold: c.Cold}
	if c.Find {
		c.find(measuring, crowd, pace, r, show)
	} else {
		c.measure(measuring, crowd, pace, r, show)
	}
	failure := crowd.Failed()
	r.note(crowd)
	crowd.Close()
	checking, cancel := context.WithTimeout(hard, verifyWithin)
	defer cancel()
	show.line("looking for what was acknowledged, in %s", count(c.Transactions, "transaction", "transactions"))
	r.Verdict = crowd.Verify(checking)
	show.clear()
	r.Interrupted = measuring.Err() != nil
	if err := c.print(io, r); err != nil {
		return err
	}
	return c.verdict(measuring, target, r, failure)
}

// sameSignal is how long after a signal another one is the same: what starts
// commands often passes a signal on to whom the terminal has sent it too.
const sameSignal = 500 * time.Millisecond

// interruptions returns a context that the first signal ends, and one that the
// second does.
func interruptions() (first, second context.Context, end func()) {
	first, stopFirst := context.WithCancel(context.Background())
	second, stopSecond := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() { // ends with end, or the second signal
		for at := (time.Time{}); second.Err() == nil; {
			select {
			case <-signals:
			case <-second.Done():
			}
			switch {
			case first.Err() == nil:
				stopFirst()
				at = time.Now()
			case time.Since(at) > sameSignal:
				stopSecond()
			}
		}
	}()
	return first, second, func() {
		signal.Stop(signals)
		stopFirst()
		stopSecond()
	}
}

// target returns the server to measure, and the report on it. It starts one if
// none is named, and stop ends that.
func (c *benchCmd) target(ctx context.Context) (t *load.Target, r *benchReport, stop func() error, err error) {
	r = &benchReport{Server: strings.Join(c.Server, ", "), Plan: benchPlan{
		Transactions: c.Transactions, People: c.People, Picks: c.Picks, Fields: c.Fields, Flap: c.Flap, Cold: c.Cold,
		PerSecond: c.Picks * float64(c.Transactions*c.People) / 60, WarmupSeconds: c.Warmup.Seconds(), Seconds: c.Duration.Seconds(),
	}}
	t = &load.Target{Servers: c.Server}
	if t.Admit, err = c.admit(); err != nil {
		return nil, nil, nil, err
	}
	if len(c.Server) > 0 {
		return t, r, func() error { return nil }, nil
	}
	own, err := startOwn(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	t.Servers, t.PID = []string{own.url}, own.pid()
	r.Server, r.Own = own.url, true
	return t, r, own.stop, nil
}

// admit returns how people get in.
func (c *benchCmd) admit() (func(load.Who) (load.Pass, error), error) {
	switch {
	case len(c.Server) == 0 || c.Key == "" && c.Token == "":
		return func(w load.Who) (load.Pass, error) { return load.Pass{User: c.User + "-" + w.Name}, nil }, nil
	case c.Token != "":
		user := client.TokenSubject(c.Token)
		if user == "" {
			return nil, usagef("--token: this is no token that says who it is of (sub)")
		}
		return func(load.Who) (load.Pass, error) { return load.Pass{User: user, Token: c.Token}, nil }, nil
	}
	key, err := identity.ReadSigningKey(c.Key)
	if err != nil {
		return nil, usagef("--key: %v", err)
	}
	return func(w load.Who) (load.Pass, error) {
		user, scope := c.User+"-"+w.Name, string(w.Transaction)
		if scope == "" {
			scope = "*"
		}
		token, err := key.Sign(identity.Grant{
			User: user, Role: w.Role, Transactions: []string{scope},
			Issuer: c.Issuer, Audience: c.Audience, Issued: time.Now(), TTL: 25 * time.Hour,
		})
		return load.Pass{User: user, Token: token}, err
	}, nil
}

// settleWithin is how long picks may take that are under way at the end.
const settleWithin = 20 * time.Second

func (c *benchCmd) measure(ctx context.Context, crowd *load.Crowd, pace load.Pace, r *benchReport, show *teller) {
	show.line("warming up for %v", c.Warmup)
	w, usage := crowd.Measure(ctx, pace, c.Warmup, c.Duration, func(p load.Point) {
		show.point(fmt.Sprintf("measuring  %.0f of %.0f s", p.At, c.Duration.Seconds()), p, crowd.Stands())
	})
	within := settleWithin
	if ctx.Err() != nil {
		within = 5 * time.Second
	}
	show.line("waiting for picks that are under way")
	// What was interrupted is waited for all the same, for a while.
	r.Picks.Unacknowledged = crowd.Settle(context.WithoutCancel(ctx), w, within)
	r.measured(w, usage, c.People)
}

func (c *benchCmd) find(ctx context.Context, crowd *load.Crowd, pace load.Pace, r *benchReport, show *teller) {
	r.Find = &benchFind{UnderMS: float64(c.Under) / float64(time.Millisecond), Steps: []load.Step{}}
	begin := pace.Picks
	best, _ := load.Search(begin, func(picks float64) (bool, error) {
		pace.Picks = picks
		name := fmt.Sprintf("trying %s picks/s", figure(crowd.PerSecond(pace)))
		s := crowd.Try(ctx, pace, c.Under, c.Warmup, c.Duration, func(p load.Point) { show.point(name, p, crowd.Stands()) })
		if err := errors.Join(ctx.Err(), crowd.Failed()); err != nil {
			return false, err
		}
		r.Find.Steps = append(r.Find.Steps, s)
		show.clear()
		show.say(stepText(s))
		return s.Holds, nil
	})
	r.found(best)
	r.Picks.Unacknowledged = crowd.Stands().Waiting
}

// failed says why nothing was measured.
func (c *benchCmd) failed(ctx context.Context, t *load.Target, err error) error {
	var refusal *load.RefusedError
	switch {
	case ctx.Err() != nil:
		return &codedError{exitInterrupted, errors.New("interrupted: nothing was measured")}
	case errors.As(err, &refusal):
		return refused(refusal.Message + advice(refusal, c))
	}
	return fmt.Errorf("no answer from %s (%s): is parley serve running there?", strings.Join(t.Servers, ", "), reason(err))
}

// advice is what to do about a refusal.
func advice(r *load.RefusedError, c *benchCmd) string {
	switch flag := load.Flag(r.Code); {
	case flag != "":
		return ": raise it with parley serve " + flag
	case r.Code == "not-allowed" || r.Code == "read-only" || r.Code == "not-host":
		return ": --token must be a host's and for all transactions (*); or give --key, to make tokens with"
	case r.Code == "no-token" || r.Code == "unauthorized":
		return ": a server without --dev wants --key, to make tokens with, or --token"
	}
	return ""
}

// verdict is the command's end: what is worst of what happened.
func (c *benchCmd) verdict(ctx context.Context, t *load.Target, r *benchReport, failure error) error {
	v := r.Verdict
	switch {
	case v.Lost > 0:
		return &codedError{exitLost, fmt.Errorf("%s of %d that were acknowledged are lost, in %s: keep the server's log and its data folder",
			count(v.Lost, "pick", "picks"), r.Acknowledged, strings.Join(v.LostIn, ", "))}
	case failure != nil:
		return c.failed(ctx, t, failure)
	case r.Interrupted:
		return &codedError{exitInterrupted, errors.New("interrupted: this is what was measured until then")}
	case v.Unchecked > 0:
		return fmt.Errorf("%s could not be looked at in the end (%s): whether something is lost is not known",
			count(v.Unchecked, "transaction", "transactions"), v.Why)
	case r.Find != nil && r.Find.Best == 0:
		return fmt.Errorf("no load holds with p99 under %v: see why above", c.Under)
	case r.Find == nil && r.Picks.Acknowledged == 0:
		return errors.New("no pick was acknowledged: measure for longer, or see above what was refused")
	}
	return nil
}
