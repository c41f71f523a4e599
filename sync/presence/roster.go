package presence

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Roster is who is here and how it stands with the agreement: all of it, so that
// who missed earlier ones needs only the last.
type Roster struct {
	Rev          uint64 // rises with every change of the rest, while the server has the transaction open
	Heads        []crdt.Hash
	Participants []Participant // by user
	// Needed are the users of whom Quorum must be ready for there to be an
	// agreement; sorted.
	Needed     []string
	Quorum     int
	Policy     Policy
	Contested  []string    // fields; sorted
	Missing    []string    // required fields for which nothing is picked; sorted
	Resolution *Resolution // over Heads; nil: there is none
	// Stalled says that nothing gets to the server's disk at the moment: what is sent
	// is kept, and not acknowledged before it does.
	Stalled bool
}

// Participant is one user who is here, however many connections that takes.
type Participant struct {
	User        string
	Name        string // "" if none was given
	Role        transaction.Role
	State       State
	Connections int    // now
	Ready       bool   // for the roster's heads
	Focus       string // the field that the user is at, "" if none
	Since       int64  // when the user came, in milliseconds since 1970 by the server's clock
	// RoundTrip is the best of the user's connections', 0 if it is not known.
	RoundTrip time.Duration
	// Lapsed is why the user is not ready any more, until ready again.
	Lapsed *Cause
}

// Lapsed tells that a user is not ready any more, and because of which change.
type Lapsed struct {
	User    string
	Because Cause
}

// Rejected tells the sender of something that it was refused.
type Rejected struct {
	Of      string      // the kind of message; "" of changes
	Changes []crdt.Hash // that were refused
	Heads   []crdt.Hash // that a refused ready named
	Fields  []string    // that it was refused for
	Code    crdt.Code
	Message string // a sentence for people
}

// Resolved tells of an agreement, which is on disk.
type Resolved struct{ Resolution Resolution }

// Pong answers a ping.
type Pong struct{ N uint64 }

// The forms in which these travel, and in which resolutions are kept.
type (
	rosterForm struct {
		T            string            `cbor:"t"`
		Rev          uint64            `cbor:"rev"`
		Heads        []string          `cbor:"heads"`
		Participants []participantForm `cbor:"participants"`
		Needed       []string          `cbor:"needed"`
		Quorum       int               `cbor:"quorum"`
		Policy       Policy            `cbor:"policy"`
		Contested    []string          `cbor:"contested"`
		Missing      []string          `cbor:"missing"`
		Resolution   *resolutionForm   `cbor:"resolution"`
		Stalled      bool              `cbor:"stalled,omitempty"`
	}
	participantForm struct {
		User        string           `cbor:"user"`
		Name        string           `cbor:"name"`
		Role        transaction.Role `cbor:"role"`
		State       State            `cbor:"state"`
		Connections int              `cbor:"connections"`
		Ready       bool             `cbor:"ready"`
		Focus       *string          `cbor:"focus"`
		Since       float64          `cbor:"since"`
		RTT         *float64         `cbor:"rtt"` // milliseconds
		Lapsed      *causeForm       `cbor:"lapsed"`
	}
	causeForm struct {
		Field  *string `cbor:"field"`
		User   string  `cbor:"user"`
		Change string  `cbor:"change"`
	}
	resolutionForm struct {
		N       int      `cbor:"n" json:"n"`
		Heads   []string `cbor:"heads" json:"heads"`
		Parties []string `cbor:"parties" json:"parties"`
		Quorum  int      `cbor:"quorum" json:"quorum"`
		At      float64  `cbor:"at" json:"at"`

		Checkpoint string `cbor:"checkpoint,omitempty" json:"checkpoint,omitempty"`
	}
	lapsedForm struct {
		T       string    `cbor:"t"`
		User    string    `cbor:"user"`
		Because causeForm `cbor:"because"`
	}
	rejectedForm struct {
		T       string   `cbor:"t"`
		Of      string   `cbor:"of,omitempty"`
		Changes []string `cbor:"changes"`
		Heads   []string `cbor:"heads,omitempty"`
		Fields  []string `cbor:"fields,omitempty"`
		Code    string   `cbor:"code"`
		Message string   `cbor:"message"`
	}
	resolvedForm struct {
		T          string         `cbor:"t"`
		Resolution resolutionForm `cbor:"resolution"`
	}
	pongForm struct {
		T string `cbor:"t"`
		N any    `cbor:"n"`
	}
)

// Encode writes the roster as the data of an ephemeral message.
func (r *Roster) Encode() []byte {
	f := rosterForm{
		T: typeRoster, Rev: r.Rev, Heads: crdt.HashTexts(r.Heads), Participants: make([]participantForm, 0, len(r.Participants)),
		Needed: listed(r.Needed), Quorum: r.Quorum, Policy: r.Policy,
		Contested: listed(r.Contested), Missing: listed(r.Missing), Stalled: r.Stalled,
	}
	for i := range r.Participants {
		f.Participants = append(f.Participants, r.Participants[i].form())
	}
	if r.Resolution != nil {
		form := r.Resolution.form()
		f.Resolution = &form
	}
	return encode(f)
}

func (p *Participant) form() participantForm {
	f := participantForm{
		User: p.User, Name: p.Name, Role: p.Role, State: p.State,
		Connections: p.Connections, Ready: p.Ready, Since: float64(p.Since),
	}
	if p.Focus != "" {
		f.Focus = &p.Focus
	}
	if p.RoundTrip > 0 {
		ms := float64(p.RoundTrip.Microseconds()) / 1000
		f.RTT = &ms
	}
	if p.Lapsed != nil {
		cause := p.Lapsed.form()
		f.Lapsed = &cause
	}
	return f
}

func (c *Cause) form() causeForm {
	f := causeForm{User: c.User, Change: c.Change.String()}
	if c.Field != "" {
		f.Field = &c.Field
	}
	return f
}

func (r *Resolution) form() resolutionForm {
	return resolutionForm{N: r.N, Heads: crdt.HashTexts(r.Heads), Parties: listed(r.Parties), Quorum: r.Quorum, At: float64(r.At), Checkpoint: r.Checkpoint}
}

// Encode writes the message as the data of an ephemeral message.
func (l *Lapsed) Encode() []byte {
	return encode(lapsedForm{T: typeLapsed, User: l.User, Because: l.Because.form()})
}

// Encode writes the message as the data of an ephemeral message.
func (r *Rejected) Encode() []byte {
	f := rejectedForm{T: typeRejected, Of: r.Of, Changes: crdt.HashTexts(r.Changes), Fields: r.Fields, Code: string(r.Code), Message: r.Message}
	if r.Heads != nil {
		f.Heads = crdt.HashTexts(r.Heads)
	}
	return encode(f)
}

// Encode writes the message as the data of an ephemeral message.
func (r *Resolved) Encode() []byte {
	return encode(resolvedForm{T: typeResolved, Resolution: r.Resolution.form()})
}

// Encode writes the message as the data of an ephemeral message.
func (p *Pong) Encode() []byte { return encode(pongForm{T: typePong, N: number(p.N)}) }

// MarshalJSON writes a resolution as it is kept and shown.
func (r Resolution) MarshalJSON() ([]byte, error) { return json.Marshal(r.form()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Resolution) UnmarshalJSON(b []byte) error {
	var f resolutionForm
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	read, err := f.read()
	if err == nil {
		*r = *read
	}
	return err
}

// ErrNotOurs says that the data of an ephemeral message is no message of
// Parley's, but an application's own.
var ErrNotOurs = errors.New("no message of Parley's")

// DecodeDown reads the data of an ephemeral message from the server: a *Roster,
// *Lapsed, *Rejected, *Resolved or *Pong, or nil for a kind that a later server
// may have. It fails with ErrNotOurs, or on what cannot be read.
func DecodeDown(data []byte) (any, error) {
	body, err := open(data)
	if err != nil || body == nil {
		return nil, ErrNotOurs
	}
	var head struct {
		T string `cbor:"t"`
	}
	if err := decoder.Unmarshal(body, &head); err != nil {
		return nil, fmt.Errorf("read a message of the server's: %w", err)
	}
	m, err := decodeDown(head.T, body)
	if err != nil {
		return nil, fmt.Errorf("read a %s message: %w", head.T, err)
	}
	return m, nil
}

// downward is the form of a message from the server.
type downward interface{ message() (any, error) }

func decodeDown(kind string, body cbor.RawMessage) (any, error) {
	var form downward
	switch kind {
	case typeRoster:
		form = &rosterForm{}
	case typeLapsed:
		form = &lapsedForm{}
	case typeRejected:
		form = &rejectedForm{}
	case typeResolved:
		form = &resolvedForm{}
	case typePong:
		form = &pongForm{}
	default:
		return nil, nil
	}
	if err := decoder.Unmarshal(body, form); err != nil {
		return nil, err
	}
	return form.message()
}

func (f *rosterForm) message() (any, error) {
	r := &Roster{
		Rev: f.Rev, Needed: listed(f.Needed), Quorum: f.Quorum, Policy: f.Policy,
		Contested: listed(f.Contested), Missing: listed(f.Missing), Stalled: f.Stalled,
	}
	var err error
	if r.Heads, err = crdt.ParseHashes(f.Heads); err != nil {
		return nil, err
	}
	for i := range f.Participants {
		p, err := f.Participants[i].read()
		if err != nil {
			return nil, err
		}
		r.Participants = append(r.Participants, p)
	}
	if f.Resolution != nil {
		r.Resolution, err = f.Resolution.read()
	}
	return r, err
}

func (f *participantForm) read() (p Participant, err error) {
	p = Participant{
		User: f.User, Name: f.Name, Role: f.Role, State: f.State,
		Connections: f.Connections, Ready: f.Ready, Since: int64(f.Since),
	}
	if f.Focus != nil {
		p.Focus = *f.Focus
	}
	if f.RTT != nil {
		if p.RoundTrip, err = roundTrip(*f.RTT); err != nil {
			return p, err
		}
	}
	if f.Lapsed != nil {
		var cause Cause
		if cause, err = f.Lapsed.read(); err == nil {
			p.Lapsed = &cause
		}
	}
	return p, err
}

// roundTrip reads milliseconds, to the microsecond to which they are written.
func roundTrip(ms float64) (time.Duration, error) {
	const day = 24 * time.Hour
	if !(ms >= 0 && ms < float64(day.Milliseconds())) { // which NaN is not, either
		return 0, fmt.Errorf("a round trip of %v ms", ms)
	}
	return time.Duration(math.Round(ms*1000)) * time.Microsecond, nil
}

func (f *causeForm) read() (Cause, error) {
	c := Cause{User: f.User}
	if f.Field != nil {
		c.Field = *f.Field
	}
	var err error
	c.Change, err = crdt.ParseHash(f.Change)
	return c, err
}

func (f *resolutionForm) read() (*Resolution, error) {
	heads, err := crdt.ParseHashes(f.Heads)
	return &Resolution{N: f.N, Heads: heads, Parties: listed(f.Parties), Quorum: f.Quorum, At: int64(f.At), Checkpoint: f.Checkpoint}, err
}

func (f *lapsedForm) message() (any, error) {
	cause, err := f.Because.read()
	return &Lapsed{User: f.User, Because: cause}, err
}

func (f *rejectedForm) message() (any, error) {
	changes, err := crdt.ParseHashes(f.Changes)
	if err != nil {
		return nil, err
	}
	heads, err := crdt.ParseHashes(f.Heads)
	return &Rejected{Of: f.Of, Changes: changes, Heads: heads, Fields: listed(f.Fields), Code: crdt.Code(f.Code), Message: f.Message}, err
}

func (f *resolvedForm) message() (any, error) {
	r, err := f.Resolution.read()
	return &Resolved{Resolution: *r}, err
}

func (f *pongForm) message() (any, error) {
	ping, ok := (&upward{N: f.N}).ping().(Ping)
	if !ok {
		return nil, errors.New("its number is none")
	}
	return &Pong{N: ping.N}, nil
}

// listed makes an empty list of nil, so that clients read [] and not null, and what
// was read is as it was written.
func listed(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}
