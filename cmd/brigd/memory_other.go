//go:build !linux

package main

// memoryDir is "": no file system in memory is there by itself.
func memoryDir(string) string { return "" }
