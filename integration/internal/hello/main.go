// Hello is a program that tests build for other systems.
package main

func main() { println("hello") }
