package registry

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// drip is a body that gives so many bytes every so often, until its request ends.
type drip struct {
	ctx   context.Context
	bytes int
	every time.Duration
	left  int
}

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(d.every):
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
	n := min(len(p), d.bytes, d.left)
	d.left -= n
	return n, nil
}

func (*drip) Close() error { return nil }

// TestTrickle has bodies come slowly, in a time of its own: what comes too slowly to end is given up with an error that is tried again.
func TestTrickle(t *testing.T) {
	for name, c := range map[string]struct {
		bytes, all int
		every      time.Duration // from one read's end
		reader     time.Duration // that the reader takes between two
		after      time.Duration // it is given up; 0: it isn't
	}{
		"nothing":                 {1, 1, time.Hour, 0, 30 * time.Second},
		"a byte a second":         {1, 1000, time.Second, 0, 30 * time.Second},
		"a byte a second, all":    {1, 29, time.Second, 0, 0},
		"just too little":         {leastRate - 1, 10 * leastRate, 29 * time.Second, 0, 30 * time.Second},
		"just enough":             {leastRate, 10 * leastRate, 29 * time.Second, 0, 0},
		"a reader that is slow":   {1, 29, time.Second, time.Hour, 0},
		"enough, then too little": {100, leastRate + 200, 100 * time.Millisecond, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				p := &patient{ReadCloser: &drip{ctx, c.bytes, c.every, c.all}, ctx: ctx, cancel: cancel, limit: 30 * time.Second}
				defer p.Close()
				began, got := time.Now(), 0
				var err error
				for buf := make([]byte, 2*leastRate); err == nil; time.Sleep(c.reader) {
					var n int
					n, err = p.Read(buf)
					got += n
				}
				if c.after == 0 {
					if err != io.EOF || got != c.all {
						t.Errorf("%d of %d bytes, %v", got, c.all, err)
					}
					return
				}
				if took := time.Since(began); !errs.Is(err, errs.Unavailable) || took != c.after {
					t.Errorf("after %s %v", took, err)
				}
			})
		})
	}
}
