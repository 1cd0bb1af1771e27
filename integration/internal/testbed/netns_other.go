//go:build !linux

package testbed

import "errors"

var errLinux = errors.New("needs Linux's namespaces")

// Inside is never so here.
func Inside() bool { return false }

// Dir is none here.
func Dir() string { return "" }

// Reenter fails.
func Reenter() (int, error) { return 1, errLinux }

// LoopbackUp fails.
func LoopbackUp() error { return errLinux }
