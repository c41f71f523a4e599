package presence_test

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// model is a room that remembers every connection there ever was and looks all
// of them through for every answer.
type model struct {
	now         time.Time
	moment      int
	doc         *subject
	settings    presence.Settings
	tabs        []*tab
	people      map[string]*person
	resolutions []presence.Resolution
	sealing     *presence.Resolution
}

// tab is one connection.
type tab struct {
	conn             presence.Conn
	user, peer       string
	role             transaction.Role
	state            tabState
	until            time.Time // of a lost one
	entered, focused int       // moments
	focus            string
	trip             time.Duration
}

type tabState string

const (
	open   tabState = "open"   // its user is here by it
	lost   tabState = "lost"   // its user may come back
	listen tabState = "listen" // it took leave
	mute   tabState = "mute"   // there is a newer one of the same client, or no user
	gone   tabState = "gone"
)

// person is a user who is here.
type person struct {
	since time.Time
	ready []crdt.Hash
	lapse *presence.Cause
}

func (m *model) of(user string, state tabState) (list []*tab) {
	for _, t := range m.tabs {
		if t.user == user && t.state == state {
			list = append(list, t)
		}
	}
	slices.SortStableFunc(list, func(a, b *tab) int { return cmp.Compare(a.entered, b.entered) })
	return list
}

// live are the connections that there are.
func (m *model) live() (list []*tab) {
	for _, t := range m.tabs {
		if t.state != gone && t.state != lost {
			list = append(list, t)
		}
	}
	return list
}

// forget drops those of whom no connection is left, and the readiness of those
// who are no parties any more.
func (m *model) forget() {
	for user, p := range m.people {
		if len(m.of(user, open)) == 0 && len(m.of(user, lost)) == 0 {
			delete(m.people, user)
		} else if !m.isParty(user, m.role(user)) {
			p.ready = nil
		}
	}
}

func (m *model) isParty(user string, role transaction.Role) bool {
	return user != "" && (role == transaction.Party || role == transaction.Host && slices.Contains(m.settings.Parties, user))
}

func (m *model) arrive(t *tab) {
	m.tabs = append(m.tabs, t)
	m.enter(t)
}

func (m *model) enter(t *tab) {
	if t.user == "" {
		t.state = mute
		return
	}
	late := func(t *tab) bool { return m.now.Before(t.until) }
	if len(m.of(t.user, open)) == 0 && !slices.ContainsFunc(m.of(t.user, lost), late) {
		m.drop(t.user)
	}
	for _, older := range m.tabs {
		switch {
		case older == t || older.user != t.user || older.peer != t.peer:
		case older.state == open:
			older.state = mute
		case older.state == lost:
			older.state = gone
		}
	}
	t.state, t.entered = open, m.moment
	if m.people[t.user] == nil {
		m.people[t.user] = &person{since: m.now}
	}
	m.forget()
}

// drop expects nobody back of a user's.
func (m *model) drop(user string) {
	for _, t := range m.of(user, lost) {
		t.state = gone
	}
	m.forget()
}

func (m *model) part(t *tab, goodbye bool) {
	if t.state == open && !goodbye {
		t.state, t.until = lost, m.now.Add(grace)
	} else {
		t.state = gone
	}
	m.forget()
}

func (m *model) leave(t *tab) {
	if t.state != open {
		return
	}
	t.state, t.focus = listen, ""
	if len(m.of(t.user, open)) == 0 {
		m.drop(t.user)
	}
	m.forget()
}

func (m *model) tick() {
	for _, t := range m.tabs {
		if t.state == lost && !m.now.Before(t.until) {
			t.state = gone
		}
	}
	m.forget()
}

func (m *model) back(t *tab) {
	newer := func(other *tab) bool { return other.peer == t.peer }
	if t.state == listen && !slices.ContainsFunc(m.of(t.user, open), newer) {
		m.enter(t)
	}
}

func (m *model) focus(t *tab, field string) {
	if field != "" {
		m.back(t)
	}
	if t.state == open {
		t.focus, t.focused = field, m.moment
	}
}

// ready returns why not.
func (m *model) ready(t *tab, heads []crdt.Hash) string {
	m.back(t)
	switch {
	case !m.isParty(t.user, t.role):
		return "not-a-party"
	case m.doc.unsettled, !slices.Equal(heads, m.doc.heads):
		return "stale"
	case len(m.doc.contested) > 0:
		return "contested"
	case len(m.doc.missing) > 0:
		return "incomplete"
	}
	if p := m.people[t.user]; t.state == open && p.ready == nil {
		p.ready, p.lapse = heads, nil
	}
	return ""
}

func (m *model) unready(t *tab) {
	if t.state == open {
		m.people[t.user].ready = nil
	}
}

// advance returns what everybody is told.
func (m *model) advance(because presence.Cause) (said []string) {
	for _, user := range m.users() {
		if p := m.people[user]; p.ready != nil && !slices.Equal(p.ready, m.doc.heads) {
			p.ready, p.lapse = nil, &because
			said = append(said, fmt.Sprintf("all: lapsed %s by %s", user, cause(&because)))
		}
	}
	return said
}

func (m *model) users() (list []string) {
	for user := range m.people {
		list = append(list, user)
	}
	slices.Sort(list)
	return list
}

func (m *model) role(user string) transaction.Role {
	tabs := append(m.of(user, open), m.of(user, lost)...)
	for _, role := range []transaction.Role{transaction.Party, transaction.Host, transaction.Auditor} {
		if slices.ContainsFunc(tabs, func(t *tab) bool { return t.role == role }) {
			return role
		}
	}
	return transaction.Viewer
}

func (m *model) needed() (users []string, quorum int) {
	for _, user := range m.users() {
		if m.role(user) == transaction.Party {
			users = append(users, user)
		}
	}
	quorum = max(2, len(users))
	if len(m.settings.Parties) > 0 {
		users, quorum = m.settings.Parties, len(m.settings.Parties)
	}
	if m.settings.Quorum > 0 {
		quorum = m.settings.Quorum
	}
	return users, quorum
}

// resolve returns the resolution that must be asked for now, if one must.
func (m *model) resolve() []string {
	last := len(m.resolutions) - 1
	if m.sealing != nil || m.doc.unsettled || last >= 0 && slices.Equal(m.resolutions[last].Heads, m.doc.heads) {
		return nil
	}
	users, quorum := m.needed()
	var ready []string
	for _, user := range users {
		if p := m.people[user]; p != nil && slices.Equal(p.ready, m.doc.heads) {
			ready = append(ready, user)
		}
	}
	if len(ready) < quorum {
		return nil
	}
	m.sealing = &presence.Resolution{N: last + 2, Heads: m.doc.heads, Parties: ready, Quorum: quorum, At: m.now.UnixMilli()}
	return []string{"resolve " + resolution(m.sealing)}
}

func (m *model) stored() []string {
	r := *m.sealing
	m.resolutions, m.sealing = append(m.resolutions, r), nil
	return []string{"all: resolved " + resolution(&r)}
}

// roster is what anybody must see who looks now.
func (m *model) roster() *presence.Roster {
	r := &presence.Roster{
		Heads: m.doc.heads, Policy: m.settings.Policy, Contested: m.doc.contested, Missing: m.doc.missing,
	}
	r.Needed, r.Quorum = m.needed()
	if last := len(m.resolutions) - 1; last >= 0 && slices.Equal(m.resolutions[last].Heads, m.doc.heads) {
		r.Resolution = &m.resolutions[last]
	}
	for _, user := range m.users() {
		p, tabs := m.people[user], m.of(user, open)
		shown := presence.Participant{
			User: user, Role: m.role(user), State: presence.Online, Connections: len(tabs),
			Ready: p.ready != nil, Since: p.since.UnixMilli(), Lapsed: p.lapse,
		}
		if len(tabs) == 0 {
			shown.State = presence.Reconnecting
		}
		at := -1
		for _, t := range tabs {
			if t.focused > at {
				at, shown.Focus = t.focused, t.focus
			}
			if t.trip > 0 && (shown.RoundTrip == 0 || t.trip < shown.RoundTrip) {
				shown.RoundTrip = t.trip
			}
		}
		r.Participants = append(r.Participants, shown)
	}
	return r
}
