package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/client"
	"parley/sync/presence"
)

var update = flag.Bool("update", false, "write the golden screens anew")

// done is a doer that remembers what it was asked to do.
type done struct {
	did   []string
	err   error
	focus string
}

func (d *done) Pick(_ context.Context, field string, value json.RawMessage, _ string) (crdt.Hash, error) {
	d.did = append(d.did, "pick "+field+" "+string(value))
	return crdt.Hash{}, d.err
}

func (d *done) PickOption(_ context.Context, field, option string) (crdt.Hash, error) {
	d.did = append(d.did, "option "+field+" "+option)
	return crdt.Hash{}, d.err
}

func (d *done) Withdraw(_ context.Context, field string) (crdt.Hash, error) {
	d.did = append(d.did, "withdraw "+field)
	return crdt.Hash{}, d.err
}

func (d *done) Ready(_ context.Context, heads []crdt.Hash) error {
	d.did = append(d.did, "ready "+strings.Join(crdt.HashTexts(heads), ","))
	return d.err
}

func (d *done) Unready(context.Context) error {
	d.did = append(d.did, "unready")
	return d.err
}

func (d *done) Focus(field string) { d.focus = field }

func (d *done) Reconnect() { d.did = append(d.did, "reconnect") }

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func option(value, source string) transaction.Option {
	return transaction.Option{Value: json.RawMessage(value), Source: source}
}

func picked(field, value, by, option string) transaction.Pick {
	return transaction.Pick{Field: field, Value: json.RawMessage(value), By: by, Option: option, At: noon.Add(-time.Minute).UnixMilli()}
}

// aView has a contested field, a missing one, and text that would steer the
// terminal.
func aView() client.View {
	return client.View{
		Fields: map[string]transaction.Field{
			"price": {Label: "Price", Required: true, Options: map[string]transaction.Option{
				"a": option("100", "seller.pdf"), "b": option("120", "buyer.pdf"),
				"c": option("115", "the mediator's letter of 3 November"), "d": option("[1,2]", ""),
			}},
			"date":  {Label: "Delivery date", Required: true},
			"place": {Label: "Ort 日本\x1b[31m", Options: map[string]transaction.Option{"p": option(`"Rotterdam"`, "contract")}},
		},
		Selections: []transaction.Selection{
			{Field: "place", Picks: []transaction.Pick{picked("place", `"Rotterdam\nu0007"`, "Zoë", "")}},
			{Field: "price", Picks: []transaction.Pick{picked("price", "100", "alice", "a"), picked("price", "120", "bob", "b")}},
		},
		Contested: []string{"price"}, Missing: []string{"date"},
		Synced: client.Synced{Saved: true, Current: true}, Status: client.Status{State: client.Online},
	}
}

func aScreen(d *done, v client.View) *screen {
	m := newScreen("deal", "alice", false, "", d)
	m.now = func() time.Time { return noon }
	m.history = func() ([]event, error) {
		return []event{{Kind: transaction.Picked, Field: "price", Pick: &pick{Value: json.RawMessage("100"), Op: "1@a"}, User: "bob", At: noon.UnixMilli()}}, nil
	}
	m.Update(viewMsg(v))
	return m
}

// press types keys and runs what they lead to.
func press(m *screen, keys ...string) {
	codes := map[string]rune{"enter": tea.KeyEnter, "up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft, "right": tea.KeyRight, "esc": tea.KeyEscape}
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		if code, ok := codes[k]; ok {
			msg = tea.KeyPressMsg{Code: code}
		}
		_, cmd := m.Update(msg)
		if cmd == nil || m.mode == modeType {
			continue
		}
		m.Update(cmd())
	}
}

// present adds people to a view: alice, whose screen it is, is ready or not.
func present(v client.View, ready bool) client.View {
	v.Roster = &presence.Roster{
		Needed: []string{"alice", "bob", "carol"}, Quorum: 3, Policy: presence.Reopen,
		Participants: []presence.Participant{
			{User: "alice", Role: transaction.Party, State: presence.Online, Connections: 1, Ready: ready, Focus: "date"},
			{User: "bob\x1b[31m", Role: transaction.Party, State: presence.Online, Connections: 2, Focus: "price"},
			{User: "holly", Role: transaction.Host, State: presence.Reconnecting},
		},
	}
	if ready {
		v.Ready = []crdt.Hash{{1}}
	}
	return v
}

func TestScreens(t *testing.T) {
	settled := present(aView(), true)
	settled.Selections = settled.Selections[:1]
	settled.Contested, settled.Missing = nil, nil
	agreed := present(settled, true)
	agreed.Roster.Resolution = &presence.Resolution{N: 2, Parties: []string{"alice", "bob", "carol"}, Quorum: 3}
	lapsed := present(aView(), false)
	lapsed.Lapses = []client.Lapse{{N: 1, User: "alice", Because: presence.Cause{Field: "price", User: "bob"}}}
	away := present(aView(), true)
	away.Status = client.Status{State: client.Reconnecting}
	offline := aView()
	offline.Status = client.Status{State: client.Reconnecting, NextTry: noon.Add(3 * time.Second), Tries: 2, Err: errors.New("no")}
	offline.Synced = client.Synced{Pending: 2}
	refusedView := aView()
	refusedView.Rejections = []client.Rejection{{
		N: 1, Code: "not-host", Message: "only a host may write fields",
		Lost: []transaction.Event{{Kind: transaction.FieldSet, Field: "price"}},
	}}
	stalled := aView()
	stalled.Synced, stalled.Roster = client.Synced{Pending: 2, Current: true}, &presence.Roster{Stalled: true}
	for name, c := range map[string]struct {
		view client.View
		keys []string
	}{
		"contested": {aView(), []string{"down", "down", "right"}},
		"missing":   {aView(), nil},
		"typing":    {aView(), []string{"e", "1", "0"}},
		"history":   {aView(), []string{"h"}},
		"offline":   {offline, []string{"down", "q"}},
		"stalled":   {stalled, nil},
		"refused":   {refusedView, []string{"down", "down"}},
		"empty":     {client.View{}, []string{"e", "enter", "w"}},
		"ready":     {settled, nil},
		"agreed":    {agreed, nil},
		"lapsed":    {lapsed, nil},
		"away":      {away, nil},
	} {
		for _, size := range [][2]int{{80, 24}, {50, 24}, {40, 12}} {
			m := aScreen(&done{}, c.view)
			m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			press(m, c.keys...)
			golden(t, name+"-"+strconv.Itoa(size[0]), m.text(), size)
		}
	}
}

func golden(t *testing.T, name, text string, size [2]int) {
	t.Helper()
	got := ansi.Strip(text) + "\n"
	if w, h := lipgloss.Size(text); w > size[0] || h > size[1] {
		t.Errorf("%s: %d columns and %d lines in a terminal of %d by %d", name, w, h, size[0], size[1])
	}
	var lines []string
	for line := range strings.SplitSeq(got, "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	got = strings.Join(lines, "\n")
	file := filepath.Join("testdata", "screens", name+".txt")
	if *update {
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	check(t, err)
	if got != string(want) {
		t.Errorf("%s is now\n%s\nwant\n%s(go test -run TestScreens -update writes them anew)", name, got, want)
	}
}

func TestKeys(t *testing.T) {
	d := &done{}
	m := aScreen(d, aView())
	press(m, "w") // nothing is picked there
	if !strings.Contains(m.note, "nothing to withdraw") {
		t.Errorf("note: %q", m.note)
	}
	press(m, "enter", "x", "esc", "e", "enter") // no option: type; left empty: nothing
	press(m, "e", "1", " ", "D", "e", "c", "enter")
	press(m, "down", "down", "right", "right", "enter", "w", "r")
	d.err = errors.New("the disk is full")
	press(m, "left", "enter")
	if m.note != "the disk is full" {
		t.Errorf("note: %q", m.note)
	}
	d.err = &crdt.Refusal{Code: transaction.CodeReadOnly, Reason: "viewers may not"}
	press(m, "enter")
	if m.note != "refused: viewers may not" {
		t.Errorf("note: %q", m.note)
	}
	if d.focus != "price" {
		t.Errorf("others see the user at %q", d.focus)
	}
	m.view.Heads = []crdt.Hash{{0xab}}
	d.err = nil
	press(m, "y")
	m.Update(viewMsg(present(aView(), true)))
	press(m, "y")
	for why, note := range map[error]string{
		&client.NotReadyError{Code: presence.CodeContested, Message: "pick one"}: "you are not ready: pick one",
		&client.NotReadyError{Code: client.CodeLapsed, Message: "undone"}:        "",
		context.DeadlineExceeded: "the server did not answer: you are not ready",
	} {
		d.err = why
		press(m, "y")
		if m.note != note {
			t.Errorf("%v is noted as %q", why, m.note)
		}
	}
	d.did = d.did[:len(d.did)-3] // what failed
	want := "pick date \"1 Dec\"|option price c|withdraw price|reconnect|option price b|option price b|ready ab" + strings.Repeat("0", 62) + "|unready"
	if got := strings.Join(d.did, "|"); got != want {
		t.Errorf("did %s\nwant %s", got, want)
	}
}

// Who takes it back without a connection sees that, and may change their mind.
func TestUnreadyWhileAway(t *testing.T) {
	d, v := &done{}, present(aView(), true)
	v.Heads, v.Status = []crdt.Hash{{0xab}}, client.Status{State: client.Reconnecting}
	m := aScreen(d, v)
	press(m, "y")
	v.Ready = nil // and the roster is as it was
	m.Update(viewMsg(v))
	if text := ansi.Strip(m.text()); strings.Contains(text, "you ready") || !strings.Contains(text, "y ready") {
		t.Errorf("the screen shows\n%s", text)
	}
	press(m, "y")
	if want := []string{"unready", "ready ab" + strings.Repeat("0", 62)}; !slices.Equal(d.did, want) {
		t.Errorf("did %q, want %q", d.did, want)
	}
}

// Who takes it back and is shown ready still, by a server that cannot tell it yet,
// sees both, and may change their mind.
func TestUnreadyNotTold(t *testing.T) {
	d, v := &done{}, present(aView(), true)
	v.Heads, v.Ready, v.TakenBack = []crdt.Hash{{0xab}}, nil, true
	m := aScreen(d, v)
	if text := ansi.Strip(m.text()); !strings.Contains(text, "you not ready (not told yet)") || !strings.Contains(text, "y ready") {
		t.Errorf("the screen shows\n%s", text)
	}
	press(m, "y")
	if want := []string{"ready ab" + strings.Repeat("0", 62)}; !slices.Equal(d.did, want) {
		t.Errorf("did %q, want %q", d.did, want)
	}
}

// TestReadyBefore: what others, and oneself, are ready for is without what is not saved.
func TestReadyBefore(t *testing.T) {
	v := present(aView(), true)
	v.Synced.Pending = 1
	if text := ansi.Strip(aScreen(&done{}, v).text()); !strings.Contains(text, "you ready before this") {
		t.Errorf("the screen shows\n%s", text)
	}
	v.Status.State = client.Online
	lines := peopleLines(v, nil)
	if !slices.ContainsFunc(lines, func(l [2]string) bool { return l[1] == "alice is ready before this" }) {
		t.Errorf("lines %q", lines)
	}
}

// TestStallLines says what began and what is over, once.
func TestStallLines(t *testing.T) {
	v, shown := present(aView(), false), map[string]string{}
	for _, stalled := range []bool{false, true, true, false} {
		v.Roster.Stalled = stalled
		for _, l := range stallLines(v, shown) {
			shown[l[0]] = l[1]
		}
	}
	if !slices.Equal(slices.Collect(maps.Values(shown)), []string{"the server saves again"}) {
		t.Errorf("shown %q", shown)
	}
}

// Whose own change undid it reads so.
func TestOwnLapse(t *testing.T) {
	v := aView()
	v.Lapses = []client.Lapse{{N: 1, User: "alice", Because: presence.Cause{Field: "price", User: "alice"}}}
	if m := aScreen(&done{}, v); m.note != "you are not ready any more: you changed Price" {
		t.Errorf("note: %q", m.note)
	}
}

// TestReadyWithoutAConnection says so at once.
func TestReadyWithoutAConnection(t *testing.T) {
	d, v := &done{}, aView()
	v.Status = client.Status{State: client.Reconnecting}
	m := aScreen(d, v)
	_, do := m.Update(tea.KeyPressMsg{Text: "y", Code: 'y'})
	if do == nil || !strings.Contains(m.note, "no connection: you are ready if it is back within 10s") {
		t.Errorf("note %q", m.note)
	}
	if m.Update(do()); m.note != "" {
		t.Errorf("ready, and the note is %q", m.note)
	}
	d.err = context.DeadlineExceeded
	if m.Update(do()); m.note != "the server did not answer: you are not ready" {
		t.Errorf("in the end: %q", m.note)
	}
	v.Status, v.Roster = client.Status{State: client.Online}, &presence.Roster{Stalled: true}
	m.Update(viewMsg(v))
	if m.Update(do()); m.note != "the server cannot save now: you are not ready" {
		t.Errorf("of a server that cannot save: %q", m.note)
	}
}

// TestQuit loses nothing without a word.
func TestQuit(t *testing.T) {
	v := aView()
	v.Synced = client.Synced{Pending: 1}
	m := aScreen(&done{}, v)
	if _, cmd := m.Update(tea.KeyPressMsg{Text: "q", Code: 'q'}); cmd != nil || m.note == "" {
		t.Error("the first q says nothing")
	}
	m.Update(viewMsg(aView()))
	if m.note != "" || m.leaving {
		t.Errorf("saved, and it still says %q", m.note)
	}
	if _, cmd := m.Update(tea.KeyPressMsg{Text: "q", Code: 'q'}); cmd == nil {
		t.Error("q does not quit")
	}
}

// TestFieldStaysChosen when others appear above it.
func TestFieldStaysChosen(t *testing.T) {
	m := aScreen(&done{}, aView())
	press(m, "down", "down")
	v := aView()
	for i := range 200 {
		v.Fields["a"+strconv.Itoa(i)] = transaction.Field{}
	}
	m.Update(viewMsg(v))
	if m.field != "price" || !strings.Contains(ansi.Strip(m.text()), "▸ Price") {
		t.Errorf("chosen: %s\n%s", m.field, m.text())
	}
}
