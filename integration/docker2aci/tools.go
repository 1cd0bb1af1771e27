// Package docker2aci is a module of its own, so that docker2aci and the old releases it needs stay out of brig's. It holds the oracle
// (docker2aci-oracle) and keeps appc's actool at hand; convert's tests build and run both. README.md has what they found.
package docker2aci
