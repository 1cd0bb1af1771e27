package logfile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/logfile/logline"
)

// wholeLog asks for everything.
var wholeLog = brig.LogOptions{Stdout: true, Stderr: true, Tail: -1}

// writeNumbers writes lines from…to-1 to the log.
func writeNumbers(t *testing.T, w *logline.Writer, from, to int) {
	t.Helper()
	s := logline.NewSplitter("stdout")
	for i := from; i < to; i++ {
		if err := w.Write(s, strconv.AppendInt(nil, int64(i), 10)); err != nil {
			t.Error(err)
		}
		if err := w.Write(s, []byte("\n")); err != nil {
			t.Error(err)
		}
	}
}

func openLog(t *testing.T, path string, o logline.Options) *logline.Writer {
	t.Helper()
	w, err := logline.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// files lists the log's files without the log's own name.
func files(t *testing.T, path string) []string {
	t.Helper()
	all, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range all {
		all[i] = strings.TrimPrefix(f, path)
	}
	slices.Sort(all)
	return all
}

// packed waits until no file waits to be compressed.
func packed(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		rest := slices.DeleteFunc(files(t, path), func(f string) bool { return f == "" || strings.HasSuffix(f, ".gz") })
		if len(rest) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not compressed: %v", rest)
		}
	}
}

func read(t *testing.T, path string, o brig.LogOptions) string {
	t.Helper()
	var got []string
	err := Read(t.Context(), path, o, nil, func(e brig.LogEntry) error {
		got = append(got, strings.TrimSuffix(string(e.Line), "\n"))
		return nil
	})
	if err != nil {
		t.Errorf("read: %v", err)
	}
	return strings.Join(got, " ")
}

func numbers(from, to int) string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, strconv.Itoa(i))
	}
	return strings.Join(out, " ")
}

// A line of one digit has 66 bytes or a few fewer, for the fraction of its second has no zeros at its end.
func TestRotation(t *testing.T) {
	for _, c := range []struct {
		o     logline.Options
		files int // at the end
		first int // line that is left; -1: some
	}{
		{logline.Options{}, 1, 0},
		{logline.Options{MaxSize: 1, MaxFiles: 100}, 20, 0}, // each line fills a file
		{logline.Options{MaxSize: 1, MaxFiles: 3}, 3, 17},
		{logline.Options{MaxSize: 1, MaxFiles: 3, Compress: true}, 3, 17},
		{logline.Options{MaxSize: 1, MaxFiles: 1}, 1, 19},
		{logline.Options{MaxSize: 1}, 1, 19},
		{logline.Options{MaxSize: 1 << 20, MaxFiles: 3}, 1, 0},
	} {
		path := filepath.Join(t.TempDir(), "log")
		w := openLog(t, path, c.o)
		writeNumbers(t, w, 0, 20)
		if c.o.Compress {
			packed(t, path)
		}
		if got := files(t, path); len(got) != c.files {
			t.Errorf("%+v: files %q, want %d", c.o, got, c.files)
		}
		if got := read(t, path, wholeLog); got != numbers(c.first, 20) {
			t.Errorf("%+v: log is %s, want from %d", c.o, got, c.first)
		}
	}
}

// One write of many lines is divided where a file is full, never within a line.
func TestRotationWithinAWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openLog(t, path, logline.Options{MaxSize: 1000, MaxFiles: 100})
	var b []byte
	for i := range 1000 {
		b = append(strconv.AppendInt(b, int64(i), 10), '\n')
	}
	if err := w.Write(logline.NewSplitter("stdout"), b); err != nil {
		t.Fatal(err)
	}
	for _, f := range files(t, path) {
		text, err := os.ReadFile(path + f)
		if err != nil || f != "" && (len(text) < 1000 || len(text) > 1200) || !strings.HasPrefix(string(text), "{") || !strings.HasSuffix(string(text), "}\n") {
			t.Errorf("file %q has %d bytes, %v", f, len(text), err)
		}
	}
	if got := read(t, path, wholeLog); got != numbers(0, 1000) {
		t.Errorf("log is %s", got)
	}
}

func TestReadAcrossFiles(t *testing.T) {
	for _, compress := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "log")
		w := openLog(t, path, logline.Options{MaxSize: 300, MaxFiles: 100, Compress: compress})
		writeNumbers(t, w, 0, 100)
		if compress {
			packed(t, path)
		}
		times := map[int]int64{}
		i := 0
		err := Read(t.Context(), path, wholeLog, nil, func(e brig.LogEntry) error { times[i] = e.Time; i++; return nil })
		if err != nil || i != 100 {
			t.Fatalf("%d lines, %v", i, err)
		}
		for n := range 102 {
			o := wholeLog
			o.Tail = n
			if got := read(t, path, o); got != numbers(max(0, 100-n), 100) {
				t.Errorf("compress %v, tail %d: %s", compress, n, got)
			}
		}
		for n := range 100 {
			since, until, tail := wholeLog, wholeLog, wholeLog
			since.Since, until.Until, tail.Since, tail.Tail = times[n], times[n], times[n], 50
			if got := read(t, path, since); got != numbers(n, 100) {
				t.Errorf("compress %v, since %d: %s", compress, n, got)
			}
			if got := read(t, path, until); got != numbers(0, n+1) {
				t.Errorf("compress %v, until %d: %s", compress, n, got)
			}
			if got := read(t, path, tail); got != numbers(max(n, 50), 100) {
				t.Errorf("compress %v, since %d of the last 50: %s", compress, n, got)
			}
		}
	}
}

// What is older than since is not even read.
func TestSinceLeavesOldFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openLog(t, path, logline.Options{MaxSize: 1, MaxFiles: 100})
	writeNumbers(t, w, 0, 3)
	plain, _ := logline.Numbered(path, 1)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(plain, old, old); err != nil {
		t.Fatal(err)
	}
	o := wholeLog
	o.Since = time.Now().Add(-time.Minute).UnixNano()
	if got := read(t, path, o); got != "1 2" {
		t.Errorf("log is %s", got)
	}
}

// A million lines through a thousand files and more, while they are compressed: no follower misses one or sees one twice, wherever it begins.
func TestFollowersCrossRotations(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	path := filepath.Join(t.TempDir(), "log")
	w := openLog(t, path, logline.Options{MaxSize: 64 << 10, MaxFiles: 1 << 20, Compress: true})
	writeNumbers(t, w, 0, 1000)
	ended := make(chan struct{})
	var all sync.WaitGroup
	for _, tail := range []int{-1, 0, 500, 1000} {
		o := wholeLog
		o.Follow, o.Tail = true, tail
		ready := make(chan struct{})
		all.Go(func() { follow(t, path, o, n, ended, ready) })
		if tail != 0 {
			<-ready
		}
	}
	s := logline.NewSplitter("stdout")
	var b []byte
	for i := 1000; i < n; i++ {
		if b = append(strconv.AppendInt(b, int64(i), 10), '\n'); len(b) > 4000 || i == n-1 {
			if err := w.Write(s, b); err != nil {
				t.Fatal(err)
			}
			b = b[:0]
		}
	}
	close(ended)
	all.Wait()
}

// follow wants each number once and in order, up to n-1. It closes ready when it has begun.
func follow(t *testing.T, path string, o brig.LogOptions, n int, ended, ready chan struct{}) {
	next, begin := -1, 0
	switch {
	case o.Tail > 0:
		begin = 1000 - o.Tail
	case o.Tail == 0:
		begin = -1 // it may begin late
	}
	err := Read(t.Context(), path, o, ended, func(e brig.LogEntry) error {
		i, err := strconv.Atoi(strings.TrimSuffix(string(e.Line), "\n"))
		if next < 0 {
			close(ready)
			if next = begin; begin < 0 {
				next = i
			}
		}
		if err != nil || i != next {
			return fmt.Errorf("line %d is %q", next, e.Line)
		}
		next++
		return nil
	})
	if err != nil || next != n && (o.Tail != 0 || next != -1) {
		t.Errorf("tail %d: %d lines, %v", o.Tail, next, err)
	}
}

// A reader that stalls misses what is removed meanwhile, and nothing else; the writer doesn't notice.
func TestStalledFollower(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openLog(t, path, logline.Options{MaxSize: 1000, MaxFiles: 3})
	writeNumbers(t, w, 0, 5)
	ended, began, stalled := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var got []int
	done := make(chan error)
	o := wholeLog
	o.Follow = true
	go func() {
		done <- Read(t.Context(), path, o, ended, func(e brig.LogEntry) error {
			i, err := strconv.Atoi(strings.TrimSuffix(string(e.Line), "\n"))
			if got = append(got, i); len(got) == 1 {
				close(began)
				<-stalled
			}
			return err
		})
	}()
	<-began
	writeNumbers(t, w, 5, 10_000)
	close(stalled)
	close(ended)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	gaps := 0
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Fatalf("%d after %d", got[i], got[i-1])
		}
		if got[i] != got[i-1]+1 {
			gaps++
		}
	}
	if got[len(got)-1] != 9999 || gaps != 1 {
		t.Errorf("%d lines, the last %d, with %d gaps", len(got), got[len(got)-1], gaps)
	}
}

// What a crash left half made is cleaned up, and numbers go on.
func TestOpenAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openLog(t, path, logline.Options{MaxSize: 1, MaxFiles: 10})
	writeNumbers(t, w, 0, 4) // files 1, 2, 3 and the current one
	w.Close()
	for _, f := range []string{".new", ".2.gz.tmp"} {
		if err := os.WriteFile(path+f, []byte("half"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(path, path+".4"); err != nil { // between the two renames
		t.Fatal(err)
	}
	if got := read(t, path, wholeLog); got != "0 1 2 3" {
		t.Errorf("before: %s", got)
	}
	w = openLog(t, path, logline.Options{MaxSize: 1, MaxFiles: 10, Compress: true})
	writeNumbers(t, w, 4, 7)
	packed(t, path)
	if got := files(t, path); strings.Join(got, " ") != " .1.gz .2.gz .3.gz .4.gz .5.gz .6.gz" {
		t.Errorf("files %q", got)
	}
	if got := read(t, path, wholeLog); got != "0 1 2 3 4 5 6" {
		t.Errorf("after: %s", got)
	}
}

// A file that can't be rotated grows: no line is lost.
func TestRotationFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.MkdirAll(path+".new", 0o750); err != nil {
		t.Fatal(err)
	}
	w, err := logline.Open(path, logline.Options{MaxSize: 100, MaxFiles: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	os.MkdirAll(path+".new", 0o750) // Open takes it for what a crash left
	writeNumbers(t, w, 0, 20)
	if got := read(t, path, wholeLog); got != numbers(0, 20) {
		t.Errorf("log is %s", got)
	}
	os.Remove(path + ".new")
	writeNumbers(t, w, 20, 40)
	if got := files(t, path); len(got) != 2 {
		t.Errorf("files %q after the cause is gone", got)
	}
}

func TestFollowWaitsForTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	o := wholeLog
	o.Follow = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 1)
	done := make(chan error)
	go func() {
		done <- Read(ctx, path, o, nil, func(e brig.LogEntry) error { got <- string(e.Line); return nil })
	}()
	writeNumbers(t, openLog(t, path, logline.Options{}), 7, 8)
	if line := <-got; line != "7\n" {
		t.Errorf("line is %q", line)
	}
	cancel()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}
