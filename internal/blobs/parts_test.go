package blobs

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestSpans(t *testing.T) {
	for _, c := range []struct {
		in     []span
		want   spans
		prefix int64
		gaps   [][2]int64 // of 100 bytes, at most 30 each
	}{
		{nil, nil, 0, [][2]int64{{0, 30}, {30, 60}, {60, 90}, {90, 100}}},
		{[]span{{0, 10}, {10, 20}}, spans{{0, 20}}, 20, [][2]int64{{20, 50}, {50, 80}, {80, 100}}},
		{[]span{{50, 60}, {0, 10}, {90, 100}}, spans{{0, 10}, {50, 60}, {90, 100}}, 10, [][2]int64{{10, 40}, {40, 50}, {60, 90}}},
		{[]span{{50, 60}, {70, 80}, {40, 75}, {5, 5}}, spans{{40, 80}}, 0, [][2]int64{{0, 30}, {30, 40}, {80, 100}}},
		{[]span{{0, 100}, {20, 30}}, spans{{0, 100}}, 100, nil},
	} {
		var s spans
		for _, x := range c.in {
			s = s.add(x.from, x.to)
		}
		if !reflect.DeepEqual(s, c.want) || s.prefix() != c.prefix || !reflect.DeepEqual(s.gaps(100, 30), c.gaps) {
			t.Errorf("%v: %v, prefix %d, gaps %v", c.in, s, s.prefix(), s.gaps(100, 30))
		}
		if got := decodeLedger(encodeLedger(100, s), 100); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v comes back as %v", c.want, got)
		}
	}
}

// sample is some 3 MiB of noise.
func sample() ([]byte, brig.Digest) {
	b := make([]byte, 3<<20+17)
	rand.NewChaCha8([32]byte{2}).Read(b)
	return b, brig.DigestOf(b)
}

// resume goes on with the sample and returns the Writer.
func resume(t *testing.T, s *Store, d brig.Digest, size int) *Writer {
	t.Helper()
	w, err := s.Resume(t.Context(), d, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// finish writes what is missing, from several goroutines, and commits.
func finish(t *testing.T, w *Writer, data []byte) error {
	t.Helper()
	var all sync.WaitGroup
	for _, r := range w.Missing(100_000) {
		all.Go(func() {
			if _, err := w.WriteAt(data[r[0]:r[1]], r[0]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	_, err := w.Commit()
	return err
}

func parts(t *testing.T, s *Store) int {
	t.Helper()
	files, err := os.ReadDir(s.parts)
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestWriteAnywhere has ranges come in any order: followers read the blob as if they had come in order.
func TestWriteAnywhere(t *testing.T) {
	s, _ := open(t)
	data, d := sample()
	w := resume(t, s, d, len(data))
	read := make(chan []byte)
	go func() {
		r := w.Follow(t.Context())
		defer r.Close()
		b, _ := io.ReadAll(r)
		read <- b
	}()
	if err := finish(t, w, data); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-read, data) || !s.Has(d) || parts(t, s) != 0 {
		t.Errorf("the follower read something else, or %d parts stay", parts(t, s))
	}
}

// TestResumeAfterAKill gives a store's files to another Store, as a brigd that was killed does: what had been written needn't come again.
func TestResumeAfterAKill(t *testing.T) {
	data, d := sample()
	const half = 3 << 19
	for _, c := range []struct {
		name  string
		spoil func(part, have string) error
		held  int64
		err   bool
	}{
		{"as it was", func(string, string) error { return nil }, half + 1000, false},
		{"killed between bytes and ledger", func(part, _ string) error {
			f, err := os.OpenFile(part, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("further"), half)
				f.Close()
			}
			return err
		}, half + 1000, false},
		{"no ledger", func(_, have string) error { return os.Remove(have) }, 0, false},
		{"torn ledger", func(_, have string) error { return os.Truncate(have, 100) }, 0, false},
		{"a ledger that promises more than is there", func(part, _ string) error { return os.Truncate(part, half) }, 0, false},
		{"rotten bytes", func(part, _ string) error {
			f, err := os.OpenFile(part, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("rot"), 1000)
				f.Close()
			}
			return err
		}, half + 1000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := open(t)
			w := resume(t, s, d, len(data))
			w.Write(data[:half])
			w.WriteAt(data[2<<20:2<<20+1000], 2<<20)
			if err := c.spoil(s.partPath(d.Hex()), s.ledgerPath(d.Hex())); err != nil {
				t.Fatal(err)
			}
			again, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := again.DropPartials(time.Hour); err != nil {
				t.Fatal(err)
			}
			w = resume(t, again, d, len(data))
			if w.Have() != c.held {
				t.Errorf("%d bytes are held, want %d", w.Have(), c.held)
			}
			err = finish(t, w, data)
			if errs.Is(err, errs.Invalid) != c.err || again.Has(d) == c.err || parts(t, again) != 0 {
				t.Errorf("%v, there: %v, %d files stay", err, again.Has(d), parts(t, again))
			}
		})
	}
}

func TestAbortKeepsWhatIsWorthIt(t *testing.T) {
	data, d := sample()
	for size, want := range map[int]int{1000: 0, keepFrom: 2} {
		s, _ := open(t)
		w := resume(t, s, d, len(data))
		other := resume(t, s, d, len(data)) // at the same time: it has a file of its own
		other.Write(data[:10])
		other.Abort()
		w.Write(data[:size])
		if n, _, err := s.DropPartials(0); n != 0 || err != nil {
			t.Errorf("a part that is being written was dropped: %v", err)
		}
		w.Abort()
		if parts(t, s) != want {
			t.Errorf("%d files stay of %d bytes, want %d", parts(t, s), size, want)
		}
		leftovers(t, s)
	}
}

func TestDropPartials(t *testing.T) {
	s, dir := open(t)
	data, d := sample()
	make1 := func(d brig.Digest, age time.Duration) {
		w := resume(t, s, d, len(data))
		w.Write(data[:keepFrom])
		w.Abort()
		at := time.Now().Add(-age)
		os.Chtimes(s.partPath(d.Hex()), at, at)
	}
	old, there := brig.DigestOf([]byte("old")), brig.DigestOf([]byte("there"))
	make1(d, time.Minute)
	make1(old, 2*time.Hour)
	make1(there, time.Minute)
	if _, err := s.PutBytes(t.Context(), []byte("there")); err != nil {
		t.Fatal(err)
	}
	for _, junk := range []string{"junk", brig.DigestOf(nil).Hex() + ".have"} {
		if err := os.WriteFile(filepath.Join(dir, "parts", junk), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n, size, err := s.DropPartials(time.Hour)
	if n != 2 || size != 2*keepFrom || err != nil || parts(t, s) != 2 {
		t.Errorf("%d parts of %d bytes, %v; %d files stay", n, size, err, parts(t, s))
	}
	if n, _, err := s.DropPartials(0); n != 1 || err != nil || parts(t, s) != 0 {
		t.Errorf("%d parts, %v; %d files stay", n, err, parts(t, s))
	}
}

// TestSweepKeepsLargeBlobsAsParts has a crash leave whole blobs that nobody names: a large one need not come again.
func TestSweepKeepsLargeBlobsAsParts(t *testing.T) {
	s, _ := open(t)
	data, d := sample()
	for _, b := range [][]byte{data, []byte("small")} {
		if _, err := s.PutBytes(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Sweep(func(brig.Digest) bool { return false }); n != 2 || err != nil || s.Has(d) {
		t.Errorf("swept %d, %v", n, err)
	}
	if n, size, err := s.Partials(); n != 1 || size != int64(len(data)) || err != nil {
		t.Errorf("%d parts of %d bytes, %v", n, size, err)
	}
	w := resume(t, s, d, len(data))
	if n, _, _ := s.Partials(); n != 0 {
		t.Error("a part that is gone on with is counted")
	}
	if w.Have() != int64(len(data)) {
		t.Errorf("%d bytes are held", w.Have())
	}
	if _, err := w.Commit(); err != nil || !s.Has(d) || parts(t, s) != 0 {
		t.Errorf("%v, %d files stay", err, parts(t, s))
	}
}
