package journal

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// book is a journal's files, and what was logged of it.
type book struct {
	t    *testing.T
	path string
	said bytes.Buffer
}

func newBook(t *testing.T) *book {
	return &book{t: t, path: filepath.Join(t.TempDir(), "events")}
}

func (b *book) open(keep int) (*Journal, []string) {
	b.t.Helper()
	j, events, err := Open(b.path, keep, slog.New(slog.NewTextHandler(&b.said, nil)))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { j.Close() })
	return j, actions(events)
}

func actions(events []brig.Event) (out []string) {
	for _, e := range events {
		out = append(out, e.Action)
	}
	return out
}

func event(n int) brig.Event {
	return brig.Event{Type: "container", Action: fmt.Sprint(n), ActorID: "id", Attributes: map[string]string{"name": "x\n\"y\"", "<": "\u2028"}, Time: time.Unix(int64(n), 123456789)}
}

func numbers(from, to int) (out []string) {
	for n := from; n < to; n++ {
		out = append(out, fmt.Sprint(n))
	}
	return out
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	b := newBook(t)
	j, _ := b.open(10)
	want := event(7)
	j.Append(want)
	_, events, err := Open(b.path, 10, slog.Default())
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	got := events[0]
	if !got.Time.Equal(want.Time) {
		t.Errorf("time %v, want %v", got.Time, want.Time)
	}
	got.Time = want.Time
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// However many events there were and however often it was opened, the newest ones are there, once each and in order, in bounded files.
func TestNewestAreKept(t *testing.T) {
	const keep = 10
	b, n := newBook(t), 0
	for _, more := range []int{3, 7, 0, 1, 9, 25, 10, 11, 1} {
		j, got := b.open(keep)
		if len(got) > 2*keep || len(got) < min(n, keep) || !slices.Equal(got, numbers(n-len(got), n)) {
			t.Fatalf("after %d: %v", n, got)
		}
		for range more {
			j.Append(event(n))
			n++
		}
		j.Close()
	}
	if b.said.Len() > 0 {
		t.Error(b.said.String())
	}
}

func TestLargeEventsTurnTheFile(t *testing.T) {
	b := newBook(t)
	j, _ := b.open(1000)
	for n := range 20 {
		e := event(n)
		e.Attributes = map[string]string{"x": strings.Repeat("x", 1<<20)}
		j.Append(e)
	}
	for _, f := range []string{b.path, b.path + ".1"} {
		if info, err := os.Stat(f); err != nil || info.Size() > maxBytes+2<<20 {
			t.Error(info.Size(), err)
		}
	}
	if _, got := b.open(1000); len(got) < 4 || !slices.Equal(got, numbers(20-len(got), 20)) {
		t.Error(got)
	}
}

// Whatever is cut off of the files or scribbled into them, the whole lines are read and what comes later is not spoiled by it.
func TestDamagedLines(t *testing.T) {
	for cut := 1; cut < 60; cut += 7 {
		b := newBook(t)
		j, _ := b.open(10)
		for n := range 3 {
			j.Append(event(n))
		}
		j.Close()
		text, err := os.ReadFile(b.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b.path, text[:len(text)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		want := []string{"0", "1"}
		if cut == 1 { // the newline alone
			want = append(want, "2")
		}
		j, got := b.open(10)
		if !slices.Equal(got, want) || (b.said.Len() == 0) != (cut == 1) {
			t.Errorf("cut %d: %v; said %q", cut, got, &b.said)
		}
		j.Append(event(3))
		j.Append(event(4))
		if _, got := b.open(10); !slices.Equal(got, append(want, "3", "4")) {
			t.Errorf("cut %d, and two more: %v", cut, got)
		}
	}
	b := newBook(t)
	lines := "\x00\x00\x00\n{}\nnull\n[]\n" + `{"time":"2026-01-02T03:04:05Z","type":"image","action":"pull","actor":"x"}` + "\n" + `{"time":"x","type":"image","action":"bad"}` + "\n"
	if err := os.WriteFile(b.path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, got := b.open(10); !slices.Equal(got, []string{"pull"}) || !strings.Contains(b.said.String(), "damaged=5") {
		t.Errorf("%v; said %q", got, &b.said)
	}
}

// A file that may not grow any more (RLIMIT_FSIZE, as a full disk) loses events and says so once; later ones are kept again.
func TestFullDisk(t *testing.T) {
	b := newBook(t)
	j, _ := b.open(1000)
	j.Append(event(0))
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	tight := was
	tight.Cur = 200 // bytes: room for one line and a part of the next
	if j.size >= 200 || j.size <= 100 {
		t.Fatal("a line has ", j.size)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 4; n++ {
		j.Append(event(n))
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	j.Append(event(9))
	if _, got := b.open(1000); !slices.Equal(got, []string{"0", "9"}) {
		t.Error(got)
	}
	if n := strings.Count(b.said.String(), "can't be kept"); n != 1 {
		t.Errorf("said %d times: %s", n, &b.said)
	}
}

func TestNoJournal(t *testing.T) {
	b := newBook(t)
	if err := os.Mkdir(b.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(b.path, 10, slog.Default()); err == nil {
		t.Error("a directory was opened")
	}
}

func BenchmarkAppend(b *testing.B) {
	j, _, err := Open(filepath.Join(b.TempDir(), "events"), 1024, slog.Default())
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	e := event(1)
	for b.Loop() {
		j.Append(e)
	}
}
