from srlvae.cli import main

main()
