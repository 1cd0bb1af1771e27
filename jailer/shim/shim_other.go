//go:build !linux && !freebsd

package shim

import (
	"errors"
	"time"

	"github.com/brigd/brig/internal/logfile/logline"
)

// Config is what a shim is told on its command line.
type Config struct {
	Instance, ID, LogPath, Hide, OOMFile string
	TTY, Stdin                           bool
	Linger                               time.Duration
	Sealed                               bool
	Log                                  logline.Options
	Syslog                               Syslog
}

// Run is not there yet on this system.
func Run(Config, int) error { return errors.New("brig-shim does not run on this system yet") }

// Init is not there on this system.
func Init([]string) int { return 127 }
