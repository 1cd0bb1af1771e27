// Command brig-shim stays with one container's main process. brigd starts it; it takes no settings from a person.
// It also serves as a container's process 1, for docker run --init.
package main

import (
	"os"
	"path"

	"github.com/brigd/brig/jailer/shim"
)

func main() {
	if path.Base(os.Args[0]) == shim.InitName {
		os.Exit(run(append([]string{shim.ModeInit}, os.Args[1:]...)))
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) == 0 {
		args = []string{""}
	}
	switch args[0] {
	case shim.ModeShim:
		c := shim.ParseArgs(args[1:])
		c.ParseLogSettings(os.Getenv(shim.LogVariable))
		if err := shim.Run(c, shim.ListenFD); err != nil {
			os.Stderr.WriteString("brig-shim: " + err.Error() + "\n")
			return 1
		}
		return 0
	case shim.ModeInit:
		if len(args) > 1 && args[1] == "--" {
			args = args[1:]
		}
		return shim.Init(args[1:])
	case shim.ModeProbe:
		return 0
	}
	os.Stderr.WriteString("brig-shim is started by brigd, not by hand\n")
	return 2
}
