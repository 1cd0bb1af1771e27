package shim

import (
	"strings"
	"time"
)

// Mode is the first argument of brig-shim.
const (
	ModeShim  = "shim"  // settings follow; the listening socket is descriptor 3, the run directory the current one
	ModeInit  = "init"  // "--" and a command follow: serve as process 1 of a container
	ModeProbe = "probe" // do nothing, to see whether an OCI runtime can start anything
)

// ListenFD is the descriptor of the listening socket.
const ListenFD = 3

// Args is the command line of c's shim after the program's name. dir is there to be found by alone.
func (c Config) Args(dir string) []string {
	a := []string{ModeShim, "instance=" + c.Instance, "dir=" + dir, "id=" + c.ID, "log=" + c.LogPath, "hide=" + c.Hide, "oom=" + c.OOMFile}
	if c.Linger > 0 {
		a = append(a, "linger="+c.Linger.String())
	}
	if c.TTY {
		a = append(a, "tty=1")
	}
	if c.Stdin {
		a = append(a, "stdin=1")
	}
	return a
}

// ParseArgs is Args's inverse, without ModeShim.
func ParseArgs(args []string) Config {
	var c Config
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "instance":
			c.Instance = value
		case "id":
			c.ID = value
		case "log":
			c.LogPath = value
		case "hide":
			c.Hide = value
		case "oom":
			c.OOMFile = value
		case "linger":
			c.Linger, _ = time.ParseDuration(value) // Args wrote it
		case "tty":
			c.TTY = true
		case "stdin":
			c.Stdin = true
		}
	}
	return c
}

// InitName as the program's name means ModeInit.
const InitName = "docker-init"
