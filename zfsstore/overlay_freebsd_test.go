package zfsstore

import "testing"

const hasOverlay = false

func setLegacy(*Store) {}

func staleMount(testing.TB, string) {}
