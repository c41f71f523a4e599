package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"parley/crdt/transaction"
	"parley/sync/client"
	"parley/sync/presence"
)

var (
	bold   = lipgloss.NewStyle().Bold(true)
	faint  = lipgloss.NewStyle().Faint(true)
	green  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	yellow = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	red    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	chosen = lipgloss.NewStyle().Reverse(true)
)

const (
	cardWidth  = 24 // with its border
	detailRows = 9  // below the fields: two lines, four of cards, a note of two lines
	lowest     = 16 // a terminal of fewer lines has no room for cards
	frameRows  = 4  // the title, the heads of the columns, a blank line, the keys
)

// View implements tea.Model.
func (m *screen) View() tea.View {
	v := tea.NewView(m.text())
	v.AltScreen = true
	v.WindowTitle = "parley " + string(m.id)
	return v
}

// text is the whole screen, no wider and no higher than the terminal.
func (m *screen) text() string {
	var body []string
	keys := "↑↓←→ move  enter pick  e type  w withdraw  y ready  r reconnect  h history  q quit"
	if m.amReady() {
		keys = strings.Replace(keys, "y ready", "y not ready", 1)
	}
	switch {
	case m.mode == modeHistory:
		body, keys = m.historyLines(), "↑↓ scroll  esc back"
	default:
		body = append(m.peopleLines(), m.fieldLines()...)
		body = append(body, "")
		body = append(body, m.detailLines()...)
		if m.mode == modeType {
			keys = "enter pick  esc leave it"
		}
	}
	footer := wrap(keys, m.width)
	room := max(1, m.height-1-len(footer))
	if len(body) > room {
		body = body[:room]
	}
	for len(body) < room {
		body = append(body, "")
	}
	lines := append([]string{m.title()}, body...)
	for _, l := range footer {
		lines = append(lines, faint.Render(l))
	}
	for i := range lines {
		lines[i] = cut(lines[i], m.width)
	}
	return strings.Join(lines[:min(len(lines), max(1, m.height))], "\n")
}

// wrap breaks a line of entries, two blanks between them.
func wrap(line string, width int) []string {
	var lines []string
	for entry := range strings.SplitSeq(line, "  ") {
		last := len(lines) - 1
		if last >= 0 && lipgloss.Width(lines[last])+2+lipgloss.Width(entry) <= width {
			lines[last] += "  " + entry
			continue
		}
		lines = append(lines, entry)
	}
	return lines
}

// title says where we are, and how it stands.
func (m *screen) title() string {
	state, style := m.connection()
	left := plain(string(m.id)) + " · " + plain(m.user)
	room := m.width - lipgloss.Width(state) - 2
	if room < 8 {
		return style.Render(state)
	}
	return bold.Render(pad(left, room)) + "  " + style.Render(state)
}

// connection says the truth about the server: whether it is there, and has what
// was picked.
func (m *screen) connection() (string, lipgloss.Style) {
	v := m.view
	saved := "saved"
	if n := v.Synced.Pending; n > 0 {
		saved = fmt.Sprintf("%d not saved yet", n)
	}
	switch v.Status.State {
	case client.Online:
		switch {
		case v.Status.Unavailable:
			return "online, no such transaction there · " + saved, red
		case v.Stalled():
			return "online, the server cannot save now · " + saved, red
		case !v.Synced.Current:
			return "online, catching up · " + saved, yellow
		case v.Synced.Pending > 0:
			return "online · saving", yellow
		}
		return "online · " + saved, green
	case client.Connecting:
		return "connecting · " + saved, yellow
	case client.Reconnecting:
		if v.Status.NextTry.IsZero() {
			return "reconnecting · " + saved, yellow
		}
		return fmt.Sprintf("reconnecting in %d s · %s", seconds(v.Status.NextTry.Sub(m.now())), saved), yellow
	}
	if v.Status.Err != nil {
		return "refused, offline · " + saved, red
	}
	return "offline · " + saved, yellow
}

// rows is how many fields fit.
func (m *screen) rows() int {
	return max(3, m.height-frameRows-detailRows-len(m.peopleLines()))
}

// peopleLines say who is here, and how it stands with the agreement: in one line
// where there is no room for two.
func (m *screen) peopleLines() []string {
	r := m.view.Roster
	if r == nil {
		return nil
	}
	style := lipgloss.NewStyle()
	switch {
	case m.view.Status.State != client.Online:
		style = faint // it is how it was
	case r.Resolution != nil:
		style = green.Bold(true)
	}
	lines := []string{style.Render(cut(standing(r, m.user), m.width))}
	if m.height < lowest {
		return lines
	}
	var people []string
	for _, p := range r.Participants {
		if p.User == m.user && m.view.Status.State != client.Online {
			p.Ready = m.amReady()
		}
		people = append(people, m.person(p))
	}
	return append([]string{strings.Join(people, "  ")}, lines...)
}

// person is one participant: the sign is filled for who is here.
func (m *screen) person(p presence.Participant) string {
	sign, style := "●", lipgloss.NewStyle()
	switch {
	case p.State == presence.Reconnecting || m.view.Status.State != client.Online:
		sign, style = "○", faint
	case p.Ready && m.view.Synced.Pending == 0 && !(p.User == m.user && m.view.TakenBack):
		style = green
	}
	text := sign + " " + m.who(p.User)
	if p.Role != transaction.Party {
		text += " (" + string(p.Role) + ")"
	}
	switch {
	case p.State == presence.Reconnecting:
		text += " reconnecting"
	case p.User == m.user && m.view.TakenBack:
		text += " not ready (not told yet)"
	case p.Ready && m.view.Synced.Pending > 0:
		text += " ready before this"
	case p.Ready:
		text += " ready"
	case p.Focus != "" && p.User != m.user:
		text += " at " + titleOf(p.Focus, m.sheet.Fields[p.Focus])
	}
	return style.Render(text)
}

// fieldLines is the table of fields, scrolled to the chosen one.
func (m *screen) fieldLines() []string {
	if len(m.names) == 0 {
		what := "This transaction has no fields yet: a host opens it with parley open."
		if !m.view.Synced.Current {
			what = "Nothing is known of this transaction here yet."
		}
		return []string{"", what}
	}
	by, state := 14, 11
	name := max(8, (m.width-by-state-8)/2)
	value := max(6, m.width-by-state-name-8)
	if m.width < 64 { // no room for who
		by = 0
		name = max(8, (m.width-state-6)/2)
		value = max(6, m.width-state-name-6)
	}
	row := func(cells ...string) string {
		line := pad(cells[0], name) + "  " + pad(cells[1], value) + "  "
		if by > 0 {
			line += pad(cells[2], by) + "  "
		}
		return line + cells[3]
	}
	lines := []string{faint.Render("  " + row("FIELD", "PICKED", "BY", ""))}
	at := slices.Index(m.names, m.field)
	from := max(0, min(at-m.rows()/2, len(m.names)-m.rows()))
	for i := from; i < min(len(m.names), from+m.rows()); i++ {
		f := m.sheet.Fields[m.names[i]]
		mark, style := stateMark(f)
		picked, who := "-", ""
		if len(f.Picks) > 0 {
			picked, who = valueText(f.Picks[0].Value), m.who(f.Picks[0].By)
		}
		line := row(titleOf(m.names[i], f), picked, who, pad(mark, state))
		switch {
		case i == at:
			line = chosen.Render("▸ " + line)
		case mark != "":
			line = style.Render("  " + line)
		default:
			line = "  " + line
		}
		lines = append(lines, line)
	}
	return lines
}

func stateMark(f sheetField) (string, lipgloss.Style) {
	switch {
	case f.Contested:
		return "! contested", red
	case len(f.Picks) == 0 && f.Required:
		return "? missing", yellow
	}
	return "", lipgloss.NewStyle()
}

func (m *screen) who(user string) string {
	if user == m.user {
		return "you"
	}
	return plain(user)
}

// detailLines is the chosen field: what is picked, and its options.
func (m *screen) detailLines() []string {
	var lines []string
	if m.field != "" {
		f := m.sheet.Fields[m.field]
		head := bold.Render(titleOf(m.field, f))
		if f.Required {
			head += faint.Render("  required")
		}
		if n := len(f.Options); n > 0 {
			head += faint.Render(fmt.Sprintf("  option %d of %d", m.option+1, n))
		}
		lines = append(lines, head)
		lines = append(lines, m.pickLines(f)...)
		if m.mode == modeType {
			lines = append(lines, "", m.input.View(), faint.Render("a number, true, false, text, or any JSON"))
		} else {
			lines = append(lines, m.cardLines(f)...)
		}
	}
	if m.height < lowest { // what was refused must be seen
		return append(m.noteLines(), lines...)
	}
	return append(lines, m.noteLines()...)
}

func (m *screen) noteLines() []string {
	const most = 3
	if m.note == "" {
		return nil
	}
	note := strings.Split(lipgloss.Wrap(m.note, m.width, " "), "\n")
	for i := range note {
		note[i] = red.Render(note[i])
	}
	return note[:min(most, len(note))]
}

// pickLines say who picked what; for a contested field, in a line each.
func (m *screen) pickLines(f sheetField) []string {
	switch {
	case len(f.Picks) == 0:
		return []string{"nothing picked"}
	case !f.Contested:
		p := f.Picks[0]
		return []string{fmt.Sprintf("%s by %s, %s", valueText(p.Value), m.who(p.By), whenText(p.At, m.now()))}
	}
	var list []string
	for i, p := range f.Picks {
		text := valueText(p.Value) + " by " + m.who(p.By)
		if i == 0 {
			text += " (wins)"
		}
		list = append(list, text)
	}
	text := "contested: " + strings.Join(list, ", ") + ". Pick again to settle it."
	return strings.Split(lipgloss.Wrap(text, m.width, " "), "\n")
}

// cardLines are the options side by side, as many as fit around the chosen one.
func (m *screen) cardLines(f sheetField) []string {
	names := m.options()
	if len(names) == 0 {
		return []string{faint.Render("no options: press e to type a value")}
	}
	if m.height < lowest {
		o := f.Options[names[m.option]]
		return []string{cut(fmt.Sprintf("‹ %s: %s · %s ›", plain(names[m.option]), valueText(o.Value), plain(o.Source)), m.width)}
	}
	fit := max(1, m.width/cardWidth)
	from := max(0, min(m.option-fit/2, len(names)-fit))
	var cards []string
	for i := from; i < min(len(names), from+fit); i++ {
		cards = append(cards, m.card(f, names[i], i == m.option))
	}
	return strings.Split(lipgloss.JoinHorizontal(lipgloss.Top, cards...), "\n")
}

// card is one option: its name, its value, where it comes from, who picked it.
func (m *screen) card(f sheetField, name string, at bool) string {
	inner := min(cardWidth, m.width) - 4
	border := lipgloss.RoundedBorder()
	if at {
		border = lipgloss.ThickBorder()
	}
	var by []string
	for _, p := range f.Picks {
		if p.Option == name {
			by = append(by, m.who(p.By))
		}
	}
	title := plain(name)
	if len(by) > 0 {
		title += " ✓ " + strings.Join(by, ", ")
	}
	o := f.Options[name]
	return lipgloss.NewStyle().Border(border).Padding(0, 1).Render(strings.Join([]string{
		pad(title, inner), bold.Render(pad(valueText(o.Value), inner)), faint.Render(pad(plain(o.Source), inner)),
	}, "\n"))
}

// historyLines is the end of the history, or what is scrolled to.
func (m *screen) historyLines() []string {
	var b strings.Builder
	rows := [][]string{{"WHEN", "WHO", "WHAT", "IN PLACE OF"}}
	for _, row := range historyRows(m.events, m.now()) {
		rows = append(rows, row[:4])
	}
	if err := writeTable(&b, rows, max(12, m.width/3)); err != nil {
		return []string{err.Error()} // a buffer does not fail
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	head, lines := faint.Render(lines[0]), lines[1:]
	if len(lines) == 0 {
		lines = []string{"nothing has happened yet"}
	}
	room := max(1, m.height-3)
	end := max(min(len(lines), room), len(lines)-m.scroll)
	return append([]string{head}, lines[max(0, end-room):end]...)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
