package metadata

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/brigd/brig/internal/survivor"
)

// TestMain makes the test program brig-mds as well.
func TestMain(m *testing.M) {
	if o, ok := ParseOptions(os.Args[1:]); ok {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		survivor.Shed()
		if err := Run(ctx, o, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// withLocal has a request come to an address of the host's.
func withLocal(ctx context.Context, a *net.TCPAddr) context.Context {
	return context.WithValue(ctx, http.LocalAddrContextKey, a)
}
