#!/bin/sh
# build.sh OUTPUT: the compiler and pkg-config alone.
exec ${CXX:-c++} -std=c++20 "$(dirname "$0")/../main.cpp" -o "$1" $(pkg-config --cflags --libs overmount)
