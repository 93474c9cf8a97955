# What stands for kbuild: `make -C /lib/modules/K/build M=FOLDER modules` writes FOLDER/*.ko.
HERE := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
RELEASE := $(shell cat $(HERE)/include/config/kernel.release)

modules:
	test -n "$(M)"
	/usr/bin/python3 -B $(HERE)/scripts/elf.py $(M) $(RELEASE)

clean:
	test -n "$(M)"
	rm -f $(M)/*.ko

kernelrelease:
	@echo $(RELEASE)

.PHONY: modules clean kernelrelease
