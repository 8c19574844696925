"""Serve an exported model over HTTP: `tlvision serve BUNDLE`. Imports no torch.

A request takes this way:

    app           routes, and errors as JSON
    service       one request: body, images, predictions, answer; counts images on their way
    uploads       files and options of a body in multipart or JSON
    decoding      an image file to a network input, within the limits
    batching      one thread that owns the model, and gives it several images at a time
    answers       predictions as JSON
    server        the process: address, signals
"""
