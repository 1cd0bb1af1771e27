// Command brig-jail makes FreeBSD jails and executes processes in them, one for each call. brig-shim starts it, in the place of an OCI runtime.
package main

import (
	"os"

	"github.com/brigd/brig/jailer/jailrun"
)

func main() { os.Exit(jailrun.Main(os.Args[1:])) }
