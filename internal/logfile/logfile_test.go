package logfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/logfile/logline"
)

// writeLog writes a log of n lines, odd ones to stderr, line i at second i.
func writeLog(t *testing.T, n int) string {
	t.Helper()
	var b []byte
	for i := range n {
		b = logline.AppendLine(b, []string{"stdout", "stderr"}[i%2], fmt.Appendf(nil, "line %d\n", i), time.Unix(int64(i), 0))
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func collect(into *[]string) func(brig.LogEntry) error {
	return func(e brig.LogEntry) error {
		*into = append(*into, strings.TrimSuffix(strings.TrimPrefix(string(e.Line), "line "), "\n"))
		return nil
	}
}

func TestRead(t *testing.T) {
	path := writeLog(t, 10)
	both := brig.LogOptions{Stdout: true, Stderr: true, Tail: -1}
	with := func(f func(*brig.LogOptions)) brig.LogOptions { o := both; f(&o); return o }
	for _, c := range []struct {
		name string
		o    brig.LogOptions
		want string
	}{
		{"all", both, "0 1 2 3 4 5 6 7 8 9"},
		{"stdout", with(func(o *brig.LogOptions) { o.Stderr = false }), "0 2 4 6 8"},
		{"tail", with(func(o *brig.LogOptions) { o.Tail = 3 }), "7 8 9"},
		{"tail of one stream", with(func(o *brig.LogOptions) { o.Tail, o.Stderr = 3, false }), "8"},
		{"tail none", with(func(o *brig.LogOptions) { o.Tail = 0 }), ""},
		{"tail of more", with(func(o *brig.LogOptions) { o.Tail = 100 }), "0 1 2 3 4 5 6 7 8 9"},
		{"since", with(func(o *brig.LogOptions) { o.Since = 7e9 }), "7 8 9"},
		{"until", with(func(o *brig.LogOptions) { o.Until = 2e9 }), "0 1 2"},
	} {
		var got []string
		if err := Read(t.Context(), path, c.o, nil, collect(&got)); err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	stop := errors.New("stop")
	if err := Read(t.Context(), path, both, nil, func(brig.LogEntry) error { return stop }); err != stop {
		t.Errorf("each's error: %v", err)
	}
	if err := Read(t.Context(), path+".missing", both, nil, nil); err != nil {
		t.Errorf("missing: %v", err)
	}
}

func TestTailOfLargeLog(t *testing.T) {
	path := writeLog(t, 20000)
	var got []string
	if err := Read(t.Context(), path, brig.LogOptions{Stdout: true, Stderr: true, Tail: 5000}, nil, collect(&got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 5000 || got[0] != "15000" || got[4999] != "19999" {
		t.Errorf("%d lines", len(got))
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	const n = 5000
	ended, began := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		w, err := logline.Open(path, logline.Options{})
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		s := logline.NewSplitter("stdout")
		for i := range n {
			if i == 100 {
				<-began
			}
			w.Write(s, fmt.Appendf(nil, "line %d\n", i))
		}
	}()
	var got []string
	add := collect(&got)
	err := Read(t.Context(), path, brig.LogOptions{Stdout: true, Tail: -1, Follow: true}, ended, func(e brig.LogEntry) error {
		if len(got) == 0 {
			close(began)
		}
		return add(e)
	})
	if err != nil || len(got) != n {
		t.Fatalf("%d lines, %v", len(got), err)
	}
	for i, s := range got {
		if s != fmt.Sprint(i) {
			t.Fatalf("line %d is %s", i, s)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Read(ctx, path, brig.LogOptions{Stdout: true, Tail: 1, Follow: true}, nil, func(brig.LogEntry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestTornLine(t *testing.T) {
	path := writeLog(t, 2)
	f, _ := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	f.WriteString(`{"log":"torn`)
	f.Close()
	var got []string
	o := brig.LogOptions{Stdout: true, Stderr: true, Tail: -1}
	if err := Read(t.Context(), path, o, nil, collect(&got)); err != nil || strings.Join(got, " ") != "0 1" {
		t.Errorf("before: %v %v", got, err)
	}
	w, err := logline.Open(path, logline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(logline.NewSplitter("stdout"), []byte("line 2\n"))
	w.Close()
	got = nil
	if err := Read(t.Context(), path, o, nil, collect(&got)); err != nil || strings.Join(got, " ") != "0 1 2" {
		t.Errorf("after: %v %v", got, err)
	}
}
