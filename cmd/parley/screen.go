package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/client"
)

// screen is the state of parley join's terminal program, as bubbletea has it:
// Update and View decide what is seen, and the client does the work.
type screen struct {
	// static
	id      transaction.ID
	user    string
	onDisk  bool // what is not on the server is kept when the program ends
	server  string
	do      doer
	history func() ([]event, error)
	now     func() time.Time

	view          client.View
	sheet         *sheet
	names         []string // of the fields, as they stand
	width, height int

	field  string // chosen
	option int    // of the field's, chosen
	mode   mode
	input  textinput.Model
	events []event // in modeHistory
	scroll int

	note     string // below the field: what was refused or failed
	rejected int    // the last rejection that was noted
	lapsed   int    // the last lapse
	leaving  bool   // q was pressed, and would lose something
}

// mode is what keys are for.
type mode int

const (
	modeFields mode = iota
	modeType
	modeHistory
)

func newScreen(id transaction.ID, user string, onDisk bool, server string, do doer) *screen {
	m := &screen{id: id, user: user, onDisk: onDisk, server: server, do: do, now: time.Now, width: 80, height: 24}
	m.input = textinput.New()
	m.input.Prompt = "> "
	m.input.SetVirtualCursor(true)
	m.sheet = sheetOf(id, m.view)
	return m
}

// Init implements tea.Model.
func (m *screen) Init() tea.Cmd {
	m.see(m.view)
	return tick()
}

// Update implements tea.Model.
func (m *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.input.SetWidth(max(10, m.width-8))
	case viewMsg:
		m.see(client.View(msg))
	case tickMsg:
		return m, tick()
	case doneMsg:
		m.failed(msg.err)
	case historyMsg:
		m.events, m.mode, m.scroll = msg.events, modeHistory, 0
		if msg.err != nil {
			m.note, m.mode = plain(msg.err.Error()), modeFields
		}
	case tea.KeyPressMsg:
		return m.key(msg)
	default:
		if m.mode == modeType {
			var cmd tea.Cmd
			m.input, cmd = m.input.Update(msg)
			return m, cmd
		}
	}
	return m, nil
}

// failed notes why something was not done.
func (m *screen) failed(err error) {
	var refusal *crdt.Refusal
	var notReady *client.NotReadyError
	switch {
	case err == nil && m.note == awayNote:
		m.note = ""
	case errors.As(err, &refusal):
		m.note = "refused: " + plain(refusal.Reason)
	case errors.As(err, &notReady) && notReady.Code == client.CodeLapsed: // noted as a lapse
	case errors.As(err, &notReady):
		m.note = "you are not ready: " + plain(notReady.Message)
	case errors.Is(err, context.DeadlineExceeded) && m.view.Stalled():
		m.note = "the server cannot save now: you are not ready"
	case errors.Is(err, context.DeadlineExceeded):
		m.note = "the server did not answer: you are not ready"
	case err != nil:
		m.note = plain(err.Error())
	}
}

// see takes a new state. What is chosen stays chosen, wherever it stands now.
func (m *screen) see(v client.View) {
	m.view, m.sheet = v, sheetOf(m.id, v)
	m.names = fieldNames(m.sheet.Fields)
	if !slices.Contains(m.names, m.field) {
		m.choose(0)
	}
	m.option = max(0, min(m.option, len(m.options())-1))
	if v.Synced.Pending == 0 {
		m.stay()
	}
	for _, r := range v.Rejections {
		if r.N > m.rejected {
			m.rejected, m.note = r.N, refusalText(r)
		}
	}
	for _, l := range v.Lapses {
		if l.N > m.lapsed {
			m.lapsed = l.N
			if l.User == m.user {
				l.User, l.Because.User = "you", m.who(l.Because.User)
				m.note = lapseText(l, v.Fields)
			}
		}
	}
}

// choose moves to the field at an index, and to its option that is picked.
func (m *screen) choose(i int) {
	m.option = 0
	if len(m.names) == 0 {
		m.field = ""
		return
	}
	m.field = m.names[max(0, min(i, len(m.names)-1))]
	m.do.Focus(m.field)
	f := m.sheet.Fields[m.field]
	if len(f.Picks) > 0 && f.Picks[0].Option != "" {
		m.option = max(0, slices.Index(m.options(), f.Picks[0].Option))
	}
}

// options are those of the chosen field.
func (m *screen) options() []string { return sortedKeys(m.sheet.Fields[m.field].Options) }

func (m *screen) key(msg tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	if msg.String() == "ctrl+c" {
		return m, tea.Quit
	}
	switch m.mode {
	case modeType:
		return m.keyTyping(msg)
	case modeHistory:
		m.keyHistory(msg)
		return m, nil
	}
	return m.keyFields(msg)
}

func (m *screen) keyFields(msg tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	at := slices.Index(m.names, m.field)
	if msg.String() != "q" {
		m.stay()
	}
	switch msg.String() {
	case "up", "k":
		m.choose(at - 1)
	case "down", "j":
		m.choose(at + 1)
	case "pgup":
		m.choose(at - m.rows())
	case "pgdown":
		m.choose(at + m.rows())
	case "home":
		m.choose(0)
	case "end":
		m.choose(len(m.names) - 1)
	case "left":
		m.option = max(0, m.option-1)
	case "right":
		m.option = max(0, min(len(m.options())-1, m.option+1))
	case "enter":
		return m, m.pickOption()
	case "e":
		return m, m.startTyping()
	case "w":
		return m, m.withdraw()
	case "y":
		return m, m.toggleReady()
	case "r":
		m.do.Reconnect()
	case "h":
		return m, func() tea.Msg {
			events, err := m.history()
			return historyMsg{events, err}
		}
	case "q":
		return m.quit()
	}
	return m, nil
}

// quit ends the program, but asks once if that loses something.
func (m *screen) quit() (tea.Model, tea.Cmd) {
	if n := m.view.Synced.Pending; n > 0 && !m.onDisk && !m.leaving {
		m.leaving = true
		m.note = fmt.Sprintf("%s not on the server, and kept nowhere else: q again loses what you picked, r tries to reconnect", count(n, "change is", "changes are"))
		return m, nil
	}
	return m, tea.Quit
}

// stay forgets that q was pressed.
func (m *screen) stay() {
	if m.leaving {
		m.leaving, m.note = false, ""
	}
}

// try does something in the background and notes if it fails.
func (m *screen) try(do func(context.Context) (crdt.Hash, error)) tea.Cmd {
	m.note = ""
	return func() tea.Msg {
		_, err := do(context.Background())
		return doneMsg{err}
	}
}

func (m *screen) pickOption() tea.Cmd {
	options, field := m.options(), m.field
	if len(options) == 0 {
		return m.startTyping()
	}
	option := options[m.option]
	return m.try(func(ctx context.Context) (crdt.Hash, error) { return m.do.PickOption(ctx, field, option) })
}

// readyWithin is how long the server may take to take note.
const readyWithin = 10 * time.Second

var awayNote = fmt.Sprintf("there is no connection: you are ready if it is back within %v", readyWithin)

// toggleReady confirms what is on the screen, or takes it back.
func (m *screen) toggleReady() tea.Cmd {
	heads, is := m.view.Heads, m.amReady()
	away := !is && m.view.Status.State != client.Online
	do := m.try(func(ctx context.Context) (crdt.Hash, error) {
		ctx, cancel := context.WithTimeout(ctx, readyWithin)
		defer cancel()
		if is {
			return crdt.Hash{}, m.do.Unready(ctx)
		}
		return crdt.Hash{}, m.do.Ready(ctx, heads)
	})
	if away {
		m.note = awayNote
	}
	return do
}

// amReady reports whether the user is, by whatever connection. Without one of ours
// the roster is how it was, and what counts is what we will say.
func (m *screen) amReady() bool {
	if m.view.Ready != nil || m.view.TakenBack || m.view.Status.State != client.Online {
		return m.view.Ready != nil
	}
	return isReady(m.view.Roster, m.user)
}

func (m *screen) withdraw() tea.Cmd {
	field := m.field
	if len(m.sheet.Fields[field].Picks) == 0 {
		m.note = "nothing is picked here: there is nothing to withdraw"
		return nil
	}
	return m.try(func(ctx context.Context) (crdt.Hash, error) { return m.do.Withdraw(ctx, field) })
}

func (m *screen) startTyping() tea.Cmd {
	if m.field == "" {
		return nil
	}
	m.mode, m.note = modeType, ""
	m.input.Reset()
	m.input.SetWidth(max(10, m.width-8))
	return m.input.Focus()
}

func (m *screen) keyTyping(msg tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	switch msg.String() {
	case "esc":
		m.mode = modeFields
		return m, nil
	case "enter":
		m.mode = modeFields
		text, field := m.input.Value(), m.field
		if text == "" {
			return m, nil
		}
		return m, m.try(func(ctx context.Context) (crdt.Hash, error) { return m.do.Pick(ctx, field, valueOf(text), "") })
	}
	var cmd tea.Cmd
	m.input, cmd = m.input.Update(msg)
	return m, cmd
}

func (m *screen) keyHistory(msg tea.KeyPressMsg) {
	switch msg.String() {
	case "up", "k":
		m.scroll++
	case "down", "j":
		m.scroll--
	case "pgup":
		m.scroll += m.height - 4
	case "pgdown":
		m.scroll -= m.height - 4
	case "esc", "q", "h", "enter":
		m.mode = modeFields
	}
	m.scroll = max(0, min(m.scroll, len(m.events)-1))
}
