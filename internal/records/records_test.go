package records

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const childEnv = "BRIG_RECORDS_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Println("child:", writeForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver puts pairs of records, replaces a third, deletes old ones, and prints the number of each transaction once it is acknowledged.
func writeForEver(path string) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	old, err := s.List(context.Background(), "a")
	if err != nil {
		return err
	}
	start := 0
	for _, r := range old {
		n, err := strconv.Atoi(r.Key)
		if err != nil {
			return err
		}
		start = max(start, n+1)
	}
	value := []byte(strings.Repeat("x", 3000))
	for n := start; ; n++ {
		puts := []brig.Record{{Kind: "a", Key: fmt.Sprintf("%08d", n), Value: value, New: true},
			{Kind: "b", Key: fmt.Sprintf("%08d", n), Value: value, New: true},
			{Kind: "last", Key: "n", Value: []byte(strconv.Itoa(n))}}
		gone := brig.Record{Kind: "b", Key: fmt.Sprintf("%08d", n-10)}
		if err := s.Put(context.Background(), puts, []brig.Record{gone}); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKill kills a writer in the midst of its transactions: what it had acknowledged is there, and every transaction is whole.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "brig.db")
	for round := range 8 {
		acked := runAndKill(t, path, 3+7*round)
		s, err := Open(path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		last, err := s.Get(t.Context(), "last", "n")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(string(last))
		if err != nil || n < acked {
			t.Errorf("round %d: last is %s (%v), acknowledged %d", round, last, err, acked)
		}
		a, _ := s.List(t.Context(), "a")
		b, _ := s.List(t.Context(), "b")
		if len(a) != n+1 {
			t.Errorf("round %d: %d records of %d", round, len(a), n+1)
		}
		if len(b) != min(10, n+1) || b[len(b)-1].Key != a[len(a)-1].Key {
			t.Errorf("round %d: a transaction is there in part: %d of b, last %s and %s", round, len(b), b[len(b)-1].Key, a[len(a)-1].Key)
		}
		s.Close()
	}
}

// runAndKill starts a writer, waits for some acknowledgements, kills it, and returns the last number that came.
func runAndKill(t *testing.T, path string, lines int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := -1
	for sc := bufio.NewScanner(out); sc.Scan(); {
		n, err := strconv.Atoi(sc.Text())
		if err != nil {
			t.Errorf("the child says %q", sc.Text())
			break
		}
		acked = n
		if lines--; lines == 0 {
			cmd.Process.Kill()
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	return acked
}

func TestPutGetList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "brig.db")
	s := open2(t, path)
	ctx := t.Context()
	rec := func(key, v string) brig.Record { return brig.Record{Kind: "image", Key: key, Value: []byte(v)} }
	fresh := rec("b", "other")
	fresh.New = true
	for _, c := range []struct {
		name    string
		puts    []brig.Record
		deletes []brig.Record
		kind    errs.Kind // Internal: no error
		want    string
	}{
		{"two", []brig.Record{rec("b", "2"), rec("a", "1")}, nil, errs.Internal, "a=1 b=2"},
		{"replace and delete", []brig.Record{rec("b", "3")}, []brig.Record{rec("a", "")}, errs.Internal, "b=3"},
		{"new, deleted in the same", []brig.Record{rec("c", "4"), fresh}, []brig.Record{rec("b", ""), rec("x", "")}, errs.Internal, "b=other c=4"},
		{"new, taken", []brig.Record{rec("d", "5"), fresh}, []brig.Record{rec("c", "")}, errs.Conflict, "b=other c=4"},
		{"delete what isn't there", nil, []brig.Record{rec("z", ""), {Kind: "nokind", Key: "z"}}, errs.Internal, "b=other c=4"},
		{"empty value", []brig.Record{rec("c", "")}, nil, errs.Internal, "b=other c="},
	} {
		err := s.Put(ctx, c.puts, c.deletes)
		if (err != nil) != (c.kind != errs.Internal) || err != nil && !errs.Is(err, c.kind) {
			t.Errorf("%s: error %v, want kind %v", c.name, err, c.kind)
		}
		if got := dump(t, s); got != c.want {
			t.Errorf("%s: records %q, want %q", c.name, got, c.want)
		}
	}
	if v, err := s.Get(ctx, "image", "b"); err != nil || string(v) != "other" {
		t.Errorf("get: %q, %v", v, err)
	}
	for _, k := range [][2]string{{"image", "nokey"}, {"nokind", "b"}} {
		if _, err := s.Get(ctx, k[0], k[1]); !errs.Is(err, errs.NotFound) {
			t.Errorf("get %v: %v, want not found", k, err)
		}
	}
	if l, err := s.List(ctx, "nokind"); err != nil || len(l) != 0 {
		t.Errorf("list of an unknown kind: %v, %v", l, err)
	}
	before := dump(t, s)
	s.Close()
	if got := dump(t, open2(t, path)); got != before {
		t.Errorf("after opening again: %q, want %q", got, before)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestEndedContext(t *testing.T) {
	s := open2(t, filepath.Join(t.TempDir(), "brig.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, gerr := s.Get(ctx, "a", "b")
	_, lerr := s.List(ctx, "a")
	for _, err := range []error{s.Put(ctx, nil, nil), gerr, lerr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want canceled", err)
		}
	}
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "brig.db")
	s := open2(t, path)
	for range 2 {
		_, err := Open(path)
		if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), path) {
			t.Errorf("open of an open file: %v", err)
		}
		if err := s.Put(t.Context(), []brig.Record{{Kind: "a", Key: "b"}}, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestDamaged breaks a good file in many ways: each time Open says so and names it.
func TestDamaged(t *testing.T) {
	good := goodFile(t)
	size := len(good)
	for _, c := range []struct {
		name  string
		spoil func(b []byte) []byte
	}{
		{"text", func([]byte) []byte { return []byte(strings.Repeat("not a database\n", 2000)) }},
		{"empty", func([]byte) []byte { return nil }},
		{"short", func(b []byte) []byte { return b[:100] }},
		{"metas only", func(b []byte) []byte { return b[:2*os.Getpagesize()] }},
		{"half", func(b []byte) []byte { return b[:size/2/4096*4096] }},
		{"metas zeroed", func(b []byte) []byte { clear(b[:2*os.Getpagesize()]); return b }},
		{"metas flipped", func(b []byte) []byte { b[20] ^= 1; b[os.Getpagesize()+20] ^= 1; return b }},
		{"pages zeroed", func(b []byte) []byte { clear(b[2*os.Getpagesize():]); return b }},
		{"pages of ones", func(b []byte) []byte { fill(b[2*os.Getpagesize():]); return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "brig.db")
			if err := os.WriteFile(path, c.spoil(append([]byte{}, good...)), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path)
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("error %q doesn't name the file or the damage", err)
			}
		})
	}
}

// TestSetAside hides a record from all but its own key, and moves it to a file.
func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	s := open2(t, filepath.Join(dir, "brig.db"))
	ctx := t.Context()
	rec := func(key, v string) brig.Record { return brig.Record{Kind: "image", Key: key, Value: []byte(v)} }
	put := func(r brig.Record) error { return s.Put(ctx, []brig.Record{r}, nil) }
	for _, r := range []brig.Record{rec("a", "1"), rec("b/c:d", "bad"), rec("e", "also"), rec("f", "other")} {
		if err := put(r); err != nil {
			t.Fatal(err)
		}
	}
	s.Hide("image", "b/c:d")
	s.Hide("image", "f")
	if got := dump(t, s); got != "a=1 e=also" {
		t.Errorf("with two hidden: %q", got)
	}
	if _, err := s.Get(ctx, "image", "b/c:d"); !errs.Is(err, errs.NotFound) {
		t.Errorf("get of a hidden one: %v", err)
	}
	taken := rec("b/c:d", "2")
	taken.New = true
	if err := put(taken); !errs.Is(err, errs.Conflict) {
		t.Errorf("put of a new one with its key: %v", err)
	}
	if err := put(rec("f", "mended")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetAside(ctx, filepath.Join(dir, "damaged"), "image", "b/c:d", []brig.Record{rec("e", "")}); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, s); got != "a=1 f=mended" {
		t.Errorf("in the end: %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "damaged", "image-b%2Fc:d")); err != nil || string(b) != "bad" {
		t.Errorf("set aside: %q, %v", b, err)
	}
	if err := put(taken); err != nil {
		t.Errorf("its key is free again: %v", err)
	}
	if err := s.SetAside(ctx, dir, "image", "none", nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("one that isn't there: %v", err)
	}
}

func goodFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "brig.db")
	s := open2(t, path)
	for i := range 200 {
		r := brig.Record{Kind: fmt.Sprint("kind", i%3), Key: fmt.Sprint(i), Value: make([]byte, 900)}
		if err := s.Put(t.Context(), []brig.Record{r}, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fill(b []byte) {
	for i := range b {
		b[i] = 0xff
	}
}

func open2(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func dump(t *testing.T, s *Store) string {
	t.Helper()
	l, err := s.List(t.Context(), "image")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range l {
		out = append(out, r.Key+"="+string(r.Value))
	}
	return strings.Join(out, " ")
}
