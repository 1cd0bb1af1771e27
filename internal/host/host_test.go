package host

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	out, err := Run(t.Context(), "echo", "a  b")
	if err != nil || string(out) != "a  b\n" {
		t.Errorf("echo: %q, %v", out, err)
	}
	_, err = Run(t.Context(), "sh", "-c", "echo why >&2; exit 3")
	var e *Error
	if !errors.As(err, &e) || e.Code != 3 || e.Stderr != "why" || !strings.Contains(err.Error(), "exit status 3: why") {
		t.Errorf("exit 3: %v", err)
	}
	if _, err = Run(t.Context(), "brig-no-such-program"); !errors.As(err, &e) || e.Code != -1 {
		t.Errorf("missing program: %v", err)
	}
	_, err = Run(t.Context(), "sh", "-c", "yes x | head -c 100000 >&2; exit 1")
	if !errors.As(err, &e) || len(e.Stderr) > maxStderr {
		t.Error("standard error is not bounded")
	}
}

func TestContextKills(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, "sleep", "60"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
