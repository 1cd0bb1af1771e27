//go:build !freebsd

package jailrun

import "os"

// Main refuses: jails are FreeBSD's.
func Main(args []string) int {
	os.Stderr.WriteString("brig-jail makes jails on FreeBSD alone\n")
	return 2
}
