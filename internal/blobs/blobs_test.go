package blobs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func open(t *testing.T) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// leftovers fails if anything is in tmp.
func leftovers(t *testing.T, s *Store) {
	t.Helper()
	files, err := os.ReadDir(s.tmp)
	if err != nil || len(files) != 0 {
		t.Errorf("left in tmp: %v, %v", files, err)
	}
}

func TestPut(t *testing.T) {
	data := bytes.Repeat([]byte("ship"), 100_000)
	good, other := brig.DigestOf(data), brig.DigestOf([]byte("x"))
	broken := io.MultiReader(bytes.NewReader(data[:1000]), iotestErr{errors.New("cable cut")})
	tests := []struct {
		name string
		r    io.Reader
		want brig.Digest
		size int64
		kind errs.Kind
		err  string
	}{
		{"right", bytes.NewReader(data), good, int64(len(data)), 0, ""},
		{"unknown digest and size", bytes.NewReader(data), "", -1, 0, ""},
		{"empty", strings.NewReader(""), brig.DigestOf(nil), 0, 0, ""},
		{"wrong digest", bytes.NewReader(data), other, -1, errs.Invalid, "have the digest"},
		{"short", bytes.NewReader(data[:10]), good, int64(len(data)), errs.Invalid, "10 bytes came"},
		{"long", bytes.NewReader(data), good, 10, errs.Invalid, "more than the announced 10"},
		{"broken", broken, good, -1, errs.Internal, "cable cut"},
		{"other algorithm", bytes.NewReader(data), "sha512:00", -1, errs.Invalid, "invalid digest"},
		{"path as digest", bytes.NewReader(data), "sha256:../../etc/passwd", -1, errs.Invalid, "invalid digest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := open(t)
			got, err := s.Put(t.Context(), tt.r, tt.want, tt.size)
			leftovers(t, s)
			list, _ := s.List()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || errs.KindOf(err) != tt.kind || len(list) != 0 {
					t.Fatalf("error %v (%v), stored %v", err, errs.KindOf(err), list)
				}
				return
			}
			if err != nil || len(list) != 1 || list[0] != (Entry{got.Digest, got.Size}) {
				t.Fatalf("got %v, %v, stored %v", got, err, list)
			}
			if b, err := s.Get(got.Digest); err != nil || brig.DigestOf(b) != got.Digest {
				t.Fatalf("Get: %v", err)
			}
		})
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

func TestPutStopsWithContext(t *testing.T) {
	s, _ := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := readFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if _, err := s.Put(ctx, r, "", -1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	leftovers(t, s)
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestOpenRemovesLeftovers(t *testing.T) {
	s, dir := open(t)
	w, err := s.Create(t.Context(), "", -1)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("half a blob")) // and the daemon dies here
	kept, err := s.PutBytes(t.Context(), []byte("whole"))
	if err != nil {
		t.Fatal(err)
	}
	s, err = Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	leftovers(t, s)
	if !s.Has(kept) {
		t.Error("a committed blob is gone")
	}
	w.Abort()
}

func TestRemoveAndSweep(t *testing.T) {
	s, dir := open(t)
	var ds []brig.Digest
	for _, b := range []string{"a", "b", "c"} {
		d, err := s.PutBytes(t.Context(), []byte(b))
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	if err := os.WriteFile(filepath.Join(dir, "sha256", "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Remove(ds[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Open(ds[0]); !errs.Is(err, errs.NotFound) {
		t.Errorf("Open of a removed blob: %v", err)
	}
	n, err := s.Sweep(func(d brig.Digest) bool { return d == ds[1] })
	if n != 1 || err != nil || !s.Has(ds[1]) || s.Has(ds[2]) {
		t.Errorf("Sweep: %d, %v", n, err)
	}
}

func TestGetSeesRot(t *testing.T) {
	s, dir := open(t)
	d, err := s.PutBytes(t.Context(), []byte("sound"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sha256", d.Hex()), []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(d); err == nil {
		t.Error("changed bytes were returned")
	}
}

func TestFollow(t *testing.T) {
	s, _ := open(t)
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	w, err := s.Create(t.Context(), brig.DigestOf(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	type result struct {
		b   []byte
		err error
	}
	results := make(chan result)
	for range 3 {
		go func() {
			r := w.Follow(t.Context())
			defer r.Close()
			b, err := io.ReadAll(r)
			results <- result{b, err}
		}()
	}
	for rest := data; len(rest) > 0; {
		n := min(777, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if r := <-results; r.err != nil || !bytes.Equal(r.b, data) {
			t.Errorf("follower read %d bytes, %v", len(r.b), r.err)
		}
	}
	late := w.Follow(t.Context())
	defer late.Close()
	if b, err := io.ReadAll(late); err != nil || !bytes.Equal(b, data) {
		t.Errorf("a late follower read %d bytes, %v", len(b), err)
	}
}

func TestFollowersSeeFailure(t *testing.T) {
	tests := []struct {
		name string
		end  func(w *Writer) error
		want string
	}{
		{"abort", func(w *Writer) error { w.Abort(); return nil }, ErrAborted.Error()},
		{"wrong digest", func(w *Writer) error { _, err := w.Commit(); return err }, "have the digest"},
		{"too long", func(w *Writer) error { _, err := w.Write(make([]byte, 100)); return err }, "more than the announced"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := open(t)
			w, err := s.Create(t.Context(), brig.DigestOf([]byte("other")), 5)
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan error)
			go func() {
				r := w.Follow(t.Context())
				defer r.Close()
				_, err := io.Copy(io.Discard, r)
				got <- err
			}()
			w.Write([]byte("12345"))
			tt.end(w)
			if err := <-got; err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("follower got %v", err)
			}
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("a write after the end succeeded")
			}
			leftovers(t, s)
		})
	}
}

func TestFollowStopsWithContext(t *testing.T) {
	s, _ := open(t)
	w, err := s.Create(t.Context(), "", -1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { _, err := w.Follow(ctx).Read(make([]byte, 1)); got <- err }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
