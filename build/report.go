package build

import (
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/brigd/brig/internal/brig"
)

// maxHeld bounds the text that is kept of a stage whose turn hasn't come, in bytes.
const maxHeld = 16 << 20

// A report puts what stages say at the same time into the order of the Dockerfile: the first stage that hasn't ended has the turn, and its lines go out
// at once; those of later ones wait. What comes after a stage that has failed is never said.
type report struct {
	mu    sync.Mutex
	emit  func(brig.BuildLine)
	parts map[int]*part
	dead  bool // a stage before has failed
}

// A part is what one stage says.
type part struct {
	r      *report
	held   []brig.BuildLine
	size   int
	ended  bool
	failed bool
	cut    bool
	turn   chan struct{} // closed when it has the turn
	has    bool
}

func newReport(emit func(brig.BuildLine)) *report { return &report{emit: emit, parts: map[int]*part{}} }

// open adds the part of stage i.
func (r *report) open(i int) *part {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &part{r: r, turn: make(chan struct{})}
	r.parts[i] = p
	return p
}

// begin gives the turn for the first time, when the stages that are known have been opened.
func (r *report) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass()
}

// pass lets the first part speak that hasn't ended.
func (r *report) pass() {
	for len(r.parts) > 0 && !r.dead {
		i := r.first()
		p := r.parts[i]
		for _, l := range p.held {
			r.emit(l)
		}
		p.held = nil
		if !p.has {
			p.has = true
			close(p.turn)
		}
		if !p.ended {
			return
		}
		delete(r.parts, i)
		r.dead = p.failed
	}
}

func (r *report) first() int {
	least := -1
	for i := range r.parts {
		if least < 0 || i < least {
			least = i
		}
	}
	return least
}

// add says one line, now or when its turn comes.
func (p *part) add(l brig.BuildLine) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	switch {
	case p.r.dead:
	case p.has && p.r.parts[p.r.first()] == p:
		p.r.emit(l)
	case p.size > maxHeld:
		if !p.cut {
			p.cut = true
			p.held = append(p.held, brig.BuildLine{Out: fmt.Sprintf("[output clipped: more than %d MiB came before its turn]\n", maxHeld>>20)})
		}
	default:
		p.size += len(l.Out) + len(l.Err) + 100
		p.held = append(p.held, l)
	}
}

func (p *part) say(format string, a ...any) { p.add(brig.BuildLine{Out: fmt.Sprintf(format, a...)}) }

// end ends the part. Nothing more is added to it.
func (p *part) end(failed bool) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.ended, p.failed = true, failed
	p.r.pass()
}

// A textWriter makes lines of what a process writes. It never cuts a character in two.
type textWriter struct {
	line func(string)
	rest []byte
}

// Write takes all of b.
func (w *textWriter) Write(b []byte) (int, error) {
	all := append(w.rest, b...)
	n := len(all) - partial(all)
	if n > 0 {
		w.line(string(all[:n]))
	}
	w.rest = append([]byte(nil), all[n:]...)
	return len(b), nil
}

// flush says what is left.
func (w *textWriter) flush() {
	if len(w.rest) > 0 {
		w.line(string(w.rest))
		w.rest = nil
	}
}

// partial is how many bytes at the end of b begin a character that isn't whole.
func partial(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}
