package main

import (
	"fmt"
	"slices"
	"strings"

	"parley/crdt/transaction"
	"parley/sync/client"
	"parley/sync/presence"
)

// standing says how it stands with the agreement. me is who reads it, "" for
// nobody in particular.
func standing(r *presence.Roster, me string) string {
	if r.Resolution != nil {
		return fmt.Sprintf("agreed by %s (resolution %d)", and(asYou(r.Resolution.Parties, me)), r.Resolution.N)
	}
	ready, missing := 0, []string{}
	for _, user := range r.Needed {
		if isReady(r, user) {
			ready++
			continue
		}
		missing = append(missing, user)
	}
	for i, name := range asYou(missing, me) {
		if indexOf(r, missing[i]) < 0 {
			name += " (not here)"
		}
		missing[i] = name
	}
	text := fmt.Sprintf("%d of %d ready", ready, r.Quorum)
	if notAsked(r, me) {
		text = "you are not asked, " + text
	}
	more := r.Quorum - ready
	if len(missing) > more {
		return fmt.Sprintf("%s, waiting for %d of %s", text, more, and(missing))
	}
	switch unknown := more - len(missing); {
	case unknown == 1:
		missing = append(missing, "another party")
	case unknown > 1:
		missing = append(missing, fmt.Sprintf("%d other parties", unknown))
	}
	return text + ", waiting for " + and(missing)
}

// notAsked reports whether a user is a party who may confirm, but does not count.
func notAsked(r *presence.Roster, user string) bool {
	i := indexOf(r, user)
	return i >= 0 && r.Participants[i].Role == transaction.Party && !slices.Contains(r.Needed, user)
}

func asYou(users []string, me string) []string {
	names := slices.Clone(users)
	if i := slices.Index(names, me); i >= 0 && me != "" {
		names[i] = "you"
	}
	return names
}

func indexOf(r *presence.Roster, user string) int {
	return slices.IndexFunc(r.Participants, func(p presence.Participant) bool { return p.User == user })
}

func isReady(r *presence.Roster, user string) bool {
	if r == nil {
		return false
	}
	i := indexOf(r, user)
	return i >= 0 && r.Participants[i].Ready
}

// and lists names as people do.
func and(names []string) string {
	plainly := make([]string, len(names))
	for i, name := range names {
		plainly[i] = plain(name)
	}
	switch n := len(plainly); n {
	case 0:
		return "nobody"
	case 1:
		return plainly[0]
	default:
		return strings.Join(plainly[:n-1], ", ") + " and " + plainly[n-1]
	}
}

// lapseText says why somebody is not ready any more. A user "you" is the reader.
func lapseText(l client.Lapse, fields map[string]transaction.Field) string {
	who := plain(l.User) + " is"
	if l.User == "you" {
		who = "you are"
	}
	return who + " not ready any more: " + causeText(l.Because, fields)
}

func causeText(c presence.Cause, fields map[string]transaction.Field) string {
	who, what := plain(c.User), "the transaction"
	if who == "" {
		who = "somebody"
	}
	if c.Field != "" {
		what = titleOf(c.Field, sheetField{Field: fields[c.Field]})
	}
	return who + " changed " + what
}

// subjectPerson begins the subjects of lines about participants.
const subjectPerson = " person "

// peopleLines says who is here, and who was in shown and is no more, each with
// its subject; and how it stands.
func peopleLines(v client.View, shown map[string]string) [][2]string {
	r := v.Roster
	if r == nil {
		return nil
	}
	var lines [][2]string
	for _, p := range r.Participants {
		lines = append(lines, [2]string{subjectPerson + p.User, personLine(p, v.Synced.Pending > 0)})
	}
	for subject := range shown {
		if user, ok := strings.CutPrefix(subject, subjectPerson); ok && indexOf(r, user) < 0 {
			lines = append(lines, [2]string{subject, plain(user) + " has left"})
		}
	}
	slices.SortFunc(lines, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return append(lines, [2]string{" standing", standing(r, "")})
}

// personLine is about one participant. behind says that something was picked here
// which the server does not have: what they are ready for is without it.
func personLine(p presence.Participant, behind bool) string {
	who := plain(p.User)
	if p.Role != transaction.Party {
		who += " (" + string(p.Role) + ")"
	}
	switch {
	case p.State == presence.Reconnecting:
		return who + " is reconnecting"
	case p.Ready && behind:
		return who + " is ready before this"
	case p.Ready:
		return who + " is ready"
	}
	return who + " is here"
}

// jsonPeople is who is here and how it stands, as join --json prints it. It is
// what the server last said.
type jsonPeople struct {
	Participants []jsonPerson `json:"participants"`
	Needed       []string     `json:"needed"`       // of whom so many must be ready as quorumNeeded says
	Needs        int          `json:"quorumNeeded"` // what follows from parties and quorum
	Stalled      bool         `json:"stalled"`      // nothing gets to the server's disk at the moment
	Lapses       []jsonLapse  `json:"lapses"`
}

type jsonPerson struct {
	User        string           `json:"user"`
	Name        string           `json:"name"`
	Role        transaction.Role `json:"role"`
	State       presence.State   `json:"state"`
	Connections int              `json:"connections"`
	Ready       bool             `json:"ready"`
	Focus       *string          `json:"focus"`
	Since       int64            `json:"since"` // milliseconds since 1970
	RTT         *float64         `json:"rtt"`   // milliseconds
}

type jsonLapse struct {
	User    string    `json:"user"`
	Because jsonCause `json:"because"`
}

type jsonCause struct {
	Field  *string `json:"field"`
	User   string  `json:"user"`
	Change string  `json:"change"`
}

func jsonPeopleOf(v client.View) *jsonPeople {
	all := &jsonPeople{Participants: []jsonPerson{}, Needed: []string{}, Lapses: []jsonLapse{}}
	for _, l := range v.Lapses {
		all.Lapses = append(all.Lapses, jsonLapse{l.User, jsonCauseOf(l.Because)})
	}
	if v.Roster == nil {
		return all
	}
	all.Needed, all.Needs, all.Stalled = listed(v.Roster.Needed), v.Roster.Quorum, v.Stalled()
	for _, p := range v.Roster.Participants {
		person := jsonPerson{
			User: p.User, Name: p.Name, Role: p.Role, State: p.State, Connections: p.Connections,
			Ready: p.Ready, Focus: orNull(p.Focus), Since: p.Since,
		}
		if p.RoundTrip > 0 {
			ms := float64(p.RoundTrip.Microseconds()) / 1000
			person.RTT = &ms
		}
		all.Participants = append(all.Participants, person)
	}
	return all
}

func jsonCauseOf(c presence.Cause) jsonCause {
	return jsonCause{Field: orNull(c.Field), User: c.User, Change: c.Change.String()}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
