//go:build !faults

package fault

// Point does nothing in programs that people use.
func Point(string) {}
