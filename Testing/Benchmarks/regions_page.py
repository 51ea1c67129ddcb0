def page(r):
    return "todo\n"
